"""
The rule of the online store, pure: what is served moves forward in (event time, known at), never back.

A backfilled old day comes with an old event time and is refused. A correction of the served day comes with the same
event time, known later, and is accepted. The same row again is refused: it would change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FAR_PAST = 2**62
"""Added before a clock is written as digits, so that times before 1970 are positive too."""


@dataclass(frozen=True, order=True)
class Clock:
    """When a row is true and when it was written, in microseconds since 1970."""

    event_time: int
    known_at: int

    @classmethod
    def of(cls, event_time: datetime, known_at: datetime | None) -> Clock:
        """A row that does not say when it was written counts as the oldest of its event time."""
        return cls(_microseconds(event_time), _microseconds(known_at) if known_at is not None else -FAR_PAST)

    def digits(self) -> str:
        """Forty digits that compare, as text, as the clock does: for stores that can only compare text."""
        return f"{self.event_time + FAR_PAST:020d}{self.known_at + FAR_PAST:020d}"


def is_newer(incoming: Clock, standing: Clock | None) -> bool:
    """Whether `incoming` may replace what is served."""
    return standing is None or incoming > standing


def time_of(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def _microseconds(moment: datetime) -> int:
    """Feast hands over times with and without a zone; without one they are UTC."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - EPOCH) // timedelta(microseconds=1)
