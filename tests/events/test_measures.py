"""A day is compared with the last weeks, and only where that says something."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipeline.contracts import BEHAVIOR_EVENTS, ITEMS, PARTITION_COLUMN
from pipeline.events.measures import daily_measures, daily_profile
from pipeline.partitions import Day
from pipeline.settings import Quality

FIRST = Day.parse("2026-03-01")
ITEMS_OF_TWO = pl.DataFrame(
    [("a", "A", ["red"], FIRST.start), ("b", "B", ["red", "blue"], FIRST.start)], schema=ITEMS.schema, orient="row"
)


def events(*days: dict[str, int]) -> pl.DataFrame:
    """Events of days in a row: how many of each item."""
    rows = []
    for offset, items in enumerate(days):
        day = FIRST.plus(offset)
        for item, number in items.items():
            rows += [(f"{day}{item}{n}", "u", item, "view", day.start, 1.0, day.end, day.key) for n in range(number)]
    return pl.DataFrame(rows, schema={**BEHAVIOR_EVENTS.schema, PARTITION_COLUMN: pl.String}, orient="row")


def measured(*days: dict[str, int], held=(), quality: Quality | None = None, **count) -> list[dict]:
    frame = events(*days)
    keys = [FIRST.plus(offset) for offset in range(len(days))]
    counts = pl.DataFrame(
        [
            {
                PARTITION_COLUMN: day.key, "read": sum(items.values()), "refused": 0, "excluded": 0, "duplicates": 0,
                "published": sum(items.values()), "last_arrival": day.end, "expected_empty": False, **count,
            }
            for day, items in zip(keys, days, strict=True)
        ]
    )
    profile = daily_profile(frame, ITEMS_OF_TWO)
    return daily_measures(keys, counts, profile, held, quality or Quality()).to_dicts()


def test_an_event_of_two_categories_counts_half_in_each_and_an_unknown_item_is_uncategorised():
    profile = daily_profile(events({"a": 1, "b": 1, "zz": 2}), ITEMS_OF_TWO)
    assert dict(zip(profile["category"], profile["weight"], strict=True)) == {
        "red": 1.5, "blue": 0.5, "uncategorised": 2.0
    }


def test_volume_and_drift_are_measured_against_the_median_and_the_mix_of_the_days_before():
    *_, last = measured(*[{"a": 100}] * 7, {"zz": 50})
    assert last["volume_drop"] == pytest.approx(0.5)
    assert last["volume_rise"] == pytest.approx(0.5)
    assert last["category_drift"] == pytest.approx(1.0)


def test_little_history_and_small_days_are_not_judged():
    assert measured(*[{"a": 100}] * 6, {"zz": 50})[-1]["volume_drop"] is None
    assert measured(*[{"a": 10}] * 7, {"zz": 5})[-1]["volume_drop"] is None
    assert measured(*[{"a": 100}] * 7, {"zz": 5})[-1]["category_drift"] is None


def test_a_held_day_is_no_history():
    days = [*[{"a": 100}] * 7, {"a": 100_0}, {"a": 100}]
    assert measured(*days)[-1]["volume_rise"] == pytest.approx(1.0)
    assert measured(*days[:8], {"a": 100}, held={FIRST.plus(k).key for k in range(3)})[-1]["volume_rise"] is None


def test_an_empty_day_is_unexpected_unless_it_is_expected_and_no_drop_of_volume():
    assert measured(*[{"a": 100}] * 7, {})[-1]["unexpectedly_empty"] == 1
    last = measured(*[{"a": 100}] * 7, {}, expected_empty=True)[-1]
    assert last["unexpectedly_empty"] == 0 and last["volume_drop"] is None


def test_rows_that_the_mapping_excludes_are_no_sign_of_bad_data():
    (day,) = measured({"a": 20}, read=100, excluded=60, refused=20)
    assert day["refused_share"] == pytest.approx(0.5)


def test_lateness_is_counted_from_the_days_end_and_not_for_history():
    (day,) = measured({"a": 1}, last_arrival=FIRST.end + timedelta(hours=30))
    assert day["freshness_hours"] == pytest.approx(30)
    (day,) = measured({"a": 1}, last_arrival=datetime(2027, 3, 1, tzinfo=UTC))
    assert day["freshness_hours"] is None
