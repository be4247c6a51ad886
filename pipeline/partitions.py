"""
Days and weeks, the keys by which everything is stored, run and restated. All UTC.

This is the only module that formats a date or asks what time it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from pipeline.errors import BadPartition

WEEK_KEY = re.compile(r"^(?P<monday>\d{4}-\d{2}-\d{2})(?: \(W\d{2}\))?$")


def utc_now() -> datetime:
    """The present moment. Called at the edges only (Dag, command); a step is told the time."""
    return datetime.now(UTC)


def run_key_of(name: str, moment: datetime) -> str:
    """The identity of one planned piece of work, for example `interest_evolution@1998-04-13`."""
    return f"{name}@{Day.of(moment).key}"


@dataclass(frozen=True, order=True)
class Day:
    """One UTC day of event time: `[00:00, 24:00)`. Its key is `YYYY-MM-DD`."""

    date: date

    @classmethod
    def parse(cls, key: str) -> Day:
        """Raises BadPartition unless `key` is a real day that round-trips."""
        try:
            day = date.fromisoformat(key)
        except (TypeError, ValueError):
            day = None
        if day is None or day.isoformat() != key:
            raise BadPartition(
                f"Partition key {key!r} is not a day. Expected YYYY-MM-DD in UTC, for example 2026-03-01."
            )
        return cls(day)

    @classmethod
    def of(cls, moment: datetime) -> Day:
        """The day that holds `moment`; a moment without a zone is refused."""
        if moment.tzinfo is None:
            raise BadPartition(f"{moment!r} has no time zone. Expected an aware datetime, for example in UTC.")
        return cls(moment.astimezone(UTC).date())

    @property
    def key(self) -> str:
        return self.date.isoformat()

    @property
    def start(self) -> datetime:
        return datetime.combine(self.date, time(), tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first moment that is no longer in the day."""
        return self.start + timedelta(days=1)

    @property
    def as_of(self) -> datetime:
        """The event time of a daily feature row: the last microsecond of the day.

        It sorts after every event of the day and before every event of the next one.
        """
        return self.end - timedelta(microseconds=1)

    def plus(self, days: int) -> Day:
        return Day(self.date + timedelta(days=days))

    def __str__(self) -> str:
        return self.key


@dataclass(frozen=True, order=True)
class Week:
    """Seven days from a Monday. Airflow's key is `2026-03-02 (W10)`, the Monday's ISO week behind it."""

    monday: Day

    @classmethod
    def parse(cls, key: str) -> Week:
        """Raises BadPartition unless `key` names a Monday."""
        match = WEEK_KEY.match(key or "")
        monday = Day.parse(match["monday"]) if match else None
        if monday is None or monday.date.weekday() != 0:
            raise BadPartition(f"Partition key {key!r} is not a week. Expected its Monday, for example 2026-03-02.")
        return cls(monday)

    @classmethod
    def of(cls, day: Day) -> Week:
        return cls(day.plus(-day.date.weekday()))

    @property
    def key(self) -> str:
        return f"{self.monday.key} (W{self.monday.date.isocalendar().week:02d})"

    @property
    def days(self) -> list[Day]:
        return [self.monday.plus(offset) for offset in range(7)]

    @property
    def end(self) -> datetime:
        """The first moment that is no longer in the week."""
        return self.days[-1].end

    def __str__(self) -> str:
        return self.key


def days_between(first: Day, last: Day) -> Iterator[Day]:
    """Every day from `first` to `last`, both included. Raises BadPartition when they are reversed."""
    if last < first:
        raise BadPartition(f"The range {first} to {last} is reversed. Expected the earlier day first.")
    for offset in range((last.date - first.date).days + 1):
        yield first.plus(offset)
