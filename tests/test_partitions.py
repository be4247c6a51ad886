"""Days and weeks are UTC, strict about their keys, and know their edges."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from pipeline.errors import BadPartition
from pipeline.partitions import Day, Week, days_between


@pytest.mark.parametrize("key", ["2026-3-1", "2026-02-30", "20260301", "", "today", "2026-03-01T00:00"])
def test_a_key_that_is_not_a_day_is_refused(key):
    with pytest.raises(BadPartition, match="is not a day"):
        Day.parse(key)


def test_a_day_is_utc_whatever_the_moments_zone():
    late_in_new_york = datetime(2026, 3, 1, 22, tzinfo=timezone(timedelta(hours=-5)))
    assert Day.of(late_in_new_york) == Day.parse("2026-03-02")


def test_a_moment_without_a_zone_is_refused():
    with pytest.raises(BadPartition, match="time zone"):
        Day.of(datetime(2026, 3, 1))


def test_as_of_lies_inside_its_own_day():
    day = Day.parse("2026-03-01")
    assert day.start < day.as_of < day.end == day.plus(1).start
    assert day.start.tzinfo is UTC


def test_a_week_reads_airflows_key_and_its_own():
    week = Week.parse("2026-03-02 (W10)")
    assert week.key == "2026-03-02 (W10)"
    assert week == Week.of(Day.parse("2026-03-08")) == Week.parse("2026-03-02")
    assert [day.key for day in week.days][::6] == ["2026-03-02", "2026-03-08"]


def test_a_week_that_does_not_start_on_monday_is_refused():
    with pytest.raises(BadPartition, match="is not a week"):
        Week.parse("2026-03-03")


def test_a_reversed_range_is_refused():
    with pytest.raises(BadPartition, match="reversed"):
        list(days_between(Day.parse("2026-03-02"), Day.parse("2026-03-01")))
