from datetime import UTC, datetime

import polars as pl
import pytest

from pipeline.catalog.facts import state_of, worst
from pipeline.catalog.statistics import measure, shown
from pipeline.contracts import UTC_TIME


def test_numbers_are_counted_in_bins_and_what_is_no_number_is_left_out():
    found = measure(pl.Series("entropy", [0.0, 1.0, 2.0, None, float("nan"), float("inf")]))

    assert (found.rows, found.nulls, found.numbers.count) == (6, 1, 3)
    assert (found.numbers.least, found.numbers.mean, found.numbers.greatest) == (0.0, 1.0, 2.0)
    assert found.numbers.quantiles["p50"] == 1.0
    assert sum(found.numbers.bins) == 3 and found.numbers.bins[0] == 1 and found.numbers.bins[-1] == 1


def test_a_list_has_lengths_and_its_elements_are_described():
    found = measure(pl.Series("item_ids", [["a", "b"], ["a"], [], None], dtype=pl.List(pl.String)))

    assert (found.rows, found.nulls, found.empty, found.distinct) == (4, 1, 1, 2)
    assert [(one.value, one.count) for one in found.frequent] == [("a", 2), ("b", 1)]
    assert (found.lengths.least, found.lengths.greatest) == (0, 2)
    assert found.norms is None


def test_a_vector_has_a_norm_and_a_list_of_counts_has_none():
    values = [[0.6, 0.8], [3.0, 4.0]]

    assert measure(pl.Series("vector", values, pl.List(pl.Float32))).norms.greatest == pytest.approx(5.0)
    assert measure(pl.Series("counts_7d", values, pl.List(pl.Float64))).norms is None


def test_times_have_a_first_and_a_last():
    moments = [datetime(2026, 3, day, tzinfo=UTC) for day in (2, 1)]

    found = measure(pl.Series("event_times", [moments], pl.List(UTC_TIME)))

    assert (found.first, found.last) == (moments[1], moments[0])


@pytest.mark.parametrize("dtype", [pl.Float64, pl.String, UTC_TIME, pl.List(pl.Float32), pl.List(pl.String)])
def test_a_feature_without_a_value_has_statistics_too(dtype):
    assert measure(pl.Series("vector", [], dtype)).rows == 0
    assert measure(pl.Series("vector", [None, None], dtype)).nulls == 2


def test_an_example_is_short():
    assert shown([0.12345678, 1.0, 2.0, 3.0, 4.0]) == "[0.1235, 1, 2, 3, … 1 more]"
    assert shown(None) == "missing"
    assert len(shown("x" * 500)) == 60


def test_a_view_is_judged_by_its_promise_and_a_service_by_its_worst_view():
    from datetime import timedelta

    assert state_of("26h", timedelta(hours=26)) == "fresh"
    assert state_of("26h", timedelta(hours=26, seconds=1)) == "stale"
    assert state_of("26h", None) == "absent"
    assert state_of("", timedelta(days=900)) == "lasting"
    assert worst(["fresh", "stale", "lasting"]) == "stale"
