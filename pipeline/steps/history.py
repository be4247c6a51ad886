"""Brings a whole past in, in one pass: published, built into features, pushed online. Equal to day by day in order."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from pipeline.errors import NotFound
from pipeline.partitions import Day, Week
from pipeline.settings import Settings
from pipeline.steps.behavior_logs import PublishedHistory, landing_days, publish_history
from pipeline.steps.sequence_features import BuiltFeatures, build_history, push_features
from pipeline.stores.pushed import PushedRows


class RestatedHistory(BaseModel):
    """What became of a range of days."""

    model_config = ConfigDict(frozen=True)

    events: PublishedHistory
    features: BuiltFeatures
    pushed: tuple[PushedRows, ...]


class HistoryPlan(BaseModel):
    """Landed days, cut in two: `past` for one pass, `recent` (from a Monday) for the scheduler, week by week."""

    model_config = ConfigDict(frozen=True)

    past: tuple[str, str] | None
    recent: tuple[str, str]


def plan_history(settings: Settings) -> HistoryPlan:
    """Everything that has landed: the last whole week and what follows it is recent, the rest is past.

    Raises NotFound when nothing has landed.
    """
    landed = landing_days(settings)
    if not landed:
        raise NotFound("No day of logs has landed. Bring a log in first: interest load --events FILE --mapping NAME.")
    first, last = landed[0], landed[-1]
    week = Week.of(last) if last.date.weekday() == 6 else Week.of(last.plus(-7))
    start = max(week.monday, first)
    past = (first.key, start.plus(-1).key) if first < start else None
    return HistoryPlan(past=past, recent=(start.key, last.key))


def restate_history(
    first: Day, last: Day, settings: Settings, known_at: datetime, push: bool = True
) -> RestatedHistory:
    """Publish a range, build its features and, with `push`, push them. Twice is the same as once.

    A day that fails is named in the result and left as it was.

    Raises:
        LogsMissing: no event could be published. Worth a retry.
        EngineFailure: a tool broke. Worth a retry.
    """
    events = publish_history(first, last, settings, known_at)
    features = build_history(first, last, settings, known_at)
    pushed = push_features(first, settings, last) if push else ()
    return RestatedHistory(events=events, features=features, pushed=pushed)
