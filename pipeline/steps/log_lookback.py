"""
One scheduled day of logs: the day itself, and what arrived since for the days before it.

A day within the lookback whose files have changed is published again. Which days follow from it is told by their
partitions: those whose features were not made from the events that now stand. So a run that dies between publishing a
day and telling about it is made good by the next one.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from pipeline.contracts import BEHAVIOR_EVENTS, SEQUENCE_FEATURES
from pipeline.errors import BadData, LogsMissing
from pipeline.observability import get_logger
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.steps.behavior_logs import publish_events
from pipeline.steps.late_events import changed_days, keep_late
from pipeline.steps.provenance import contents_in, day_before_of, made_from
from pipeline.steps.published import PublishedEvents
from pipeline.stores.ledger import Ledger

log = get_logger(__name__)


class PublishedDay(BaseModel):
    """What became of a scheduled day, and of the days before it."""

    model_config = ConfigDict(frozen=True)

    published: PublishedEvents
    restated: tuple[PublishedEvents, ...] = ()
    """Days within the lookback that were published again."""
    late: dict[str, int] = {}
    """Days before the lookback for which something arrived, and the rows that wait in `late_events`."""
    failed: dict[str, str] = {}
    """Days before this one that could not be read or published again, and why; they stay as they were."""
    partitions: tuple[str, ...]
    """The day, and the earlier days that everything made from events has to be made for again."""


def publish_day(day: Day, settings: Settings, known_at: datetime, looks_back: bool = True) -> PublishedDay:
    """Publish a day and, with `looks_back`, the days before it for which something arrived. Twice is the same as once.

    Raises as `publish_events` does, for the day itself.
    """
    restated, late, failed = [], {}, {}
    first = day.plus(-settings.logs.lookback_days)
    for earlier in changed_days(day, settings) if looks_back else ():
        try:
            if earlier >= first:
                restated.append(publish_events(earlier, settings, known_at))
            elif (rows := keep_late(earlier, settings, known_at)) is not None:
                late[earlier.key] = rows
        except (BadData, LogsMissing) as error:
            failed[earlier.key] = str(error)
            log.warning("an earlier day was left as it is", partition=earlier.key, reason=str(error))
    published = publish_events(day, settings, known_at)
    behind = _days_behind(first, day, settings) if looks_back else []
    return PublishedDay(
        published=published,
        restated=tuple(restated),
        late=late,
        failed=failed,
        partitions=(*behind, day.key),
    )


def _days_behind(first: Day, before: Day, settings: Settings) -> list[str]:
    """The published days from `first` on whose features were made from other events than now stand."""
    ledger = Ledger(settings.ledger_url)
    used = {line.partition: line.details.get("upstream", {}) for line in ledger.partitions(SEQUENCE_FEATURES.name)}
    contents = contents_in(ledger, [BEHAVIOR_EVENTS])
    contents |= day_before_of(contents, SEQUENCE_FEATURES, settings)

    def is_behind(key: str) -> bool:
        now, then = made_from(contents, key), used.get(key, {})
        return any(then.get(name) != content for name, content in now.items())

    return [
        line.partition
        for line in ledger.partitions(BEHAVIOR_EVENTS.name)
        if first.key <= line.partition < before.key
        and line.state in ("published", "empty")
        and line.details.get("content")
        and is_behind(line.partition)
    ]
