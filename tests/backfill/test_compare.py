"""What a partition would hold beside what stands: which rows, which columns, how far."""

from datetime import UTC, datetime

import polars as pl
import pytest

from pipeline.backfill.compare import compare_partition
from pipeline.contracts import LONG_TERM_INTEREST, RECOMMENDATIONS
from pipeline.settings import Backfill

AT, CREATED = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 4, 2, tzinfo=UTC)
FACTS = {"space_id": "s", "model_version": 1, "model_cutoff": AT, "event_timestamp": AT, "created": CREATED}


def vectors(**users: list[float]) -> pl.DataFrame:
    return pl.DataFrame([{"user_id": u, "vector": v, **FACTS} for u, v in users.items()], LONG_TERM_INTEREST.schema)


def lists(**users: list[str]) -> pl.DataFrame:
    rows = [{"user_id": u, "item_ids": i, "scores": [1.0] * len(i), **FACTS} for u, i in users.items()]
    return pl.DataFrame(rows, RECOMMENDATIONS.schema)


def test_rows_are_paired_by_their_key_and_when_they_were_written_does_not_count():
    stood = vectors(a=[1.0, 0.0], b=[1.0, 0.0])
    wanted = vectors(b=[0.0, 1.0], c=[1.0, 0.0]).with_columns(created=pl.lit(AT).cast(stood["created"].dtype))
    found = compare_partition(LONG_TERM_INTEREST, "2026-03-02", stood, wanted)
    assert (found.standing, found.wanted, found.added, found.removed, found.changed) == (2, 2, 1, 1, 1)
    assert (found.columns, found.mean_cosine, found.mean_edit_distance) == ({"vector": 1}, 0.0, None)
    assert found.share == 1.5


def test_the_last_bits_of_a_vector_are_no_difference():
    found = compare_partition(LONG_TERM_INTEREST, "d", vectors(a=[0.6, 0.8]), vectors(a=[0.6, 0.80001]))
    assert (found.changed, found.columns, found.mean_cosine) == (0, {}, None)


def test_lists_differ_by_their_edit_distance():
    stood, wanted = lists(a=["1", "2", "3", "4"], b=["1"]), lists(a=["1", "2", "3", "5"], b=["1"])
    found = compare_partition(RECOMMENDATIONS, "d", stood, wanted)
    assert (found.columns, found.mean_edit_distance) == ({"item_ids": 1}, 0.25)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"max_row_change": 0.2, "max_changed_share": 9, "min_cosine": -1}, "2 rows would become 3"),
        ({"max_row_change": 9, "max_changed_share": 0.4, "min_cosine": -1}, "100.0% of the rows would differ"),
        ({"max_row_change": 9, "max_changed_share": 9, "min_cosine": 0.5}, "mean cosine of vectors 0.0000"),
    ],
)
def test_what_is_above_the_tolerance_is_said(limits, says):
    stood, wanted = vectors(a=[1.0, 0.0], b=[1.0, 0.0]), vectors(a=[1.0, 0.0], b=[0.0, 1.0], c=[1.0, 0.0])
    [said] = compare_partition(LONG_TERM_INTEREST, "d", stood, wanted).beyond(Backfill(**limits))
    assert says in said


def test_where_nothing_stood_there_is_nothing_to_compare_with():
    found = compare_partition(LONG_TERM_INTEREST, "d", LONG_TERM_INTEREST.empty(), vectors(a=[1.0, 0.0]))
    assert found.added == 1 and found.beyond(Backfill()) == []
