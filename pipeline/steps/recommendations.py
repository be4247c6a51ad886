"""
Ranks the catalogue for the users who were active on a day, with one release, and pushes the lists online. On the
first day of another release, for everybody.

The vectors come from the interest version that the release's filter was tuned with, so one answer is of one space.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import polars as pl
from pydantic import BaseModel, ConfigDict

from pipeline.contracts import RECOMMENDATIONS
from pipeline.models.release import Release
from pipeline.observability import get_logger
from pipeline.partitions import Day
from pipeline.serving.releases import load_release, ranked_lists
from pipeline.settings import Settings
from pipeline.steps.served_table import ServedTable
from pipeline.steps.serving_days import NO_MODEL_YET, Timeline, facts_of_version
from pipeline.stores.locks import alone
from pipeline.stores.model_versions import Version
from pipeline.stores.registry import Registry

MODEL = "collaborative_filter"

log = get_logger(__name__)


class RecommendedItems(BaseModel):
    """What a day's ranking left behind. `state` is `recommended`, or says why nothing was."""

    model_config = ConfigDict(frozen=True)

    day: str
    state: str
    users: int = 0
    items: int = 0
    model_version: int | None = None
    interest_version: int | None = None
    space_id: str = ""
    pushed: int = 0
    """Rows that the online store took; those that it holds already, or newer ones of, are not among them."""
    changed: bool = False
    later_days: list[str] = []
    """Days after it that were stale and were ranked again."""


def recommend_items(day: Day, settings: Settings, known_at: datetime, push: bool = True) -> RecommendedItems:
    """Replace one day of `recommendations` and, with `push`, push it. Twice is the same as once.

    A day before the first release is recorded as such, and is no failure.
    """
    with alone(settings, RECOMMENDATIONS.name):
        ranking = _Ranking(settings, known_at, push)
        recommended = ranking.recommend(day)
        later = ranking.days_behind(day)
        for other in later:
            ranking.recommend(other)
        ranking.push_since(day, {day, *later})
    return recommended.model_copy(update={"later_days": [other.key for other in later]})


def restate_recommendations(
    settings: Settings, known_at: datetime, pushed: Collection[Day] = ()
) -> list[RecommendedItems]:
    """Rank again every day that was written, or skipped, before the release that serves it was promoted.

    Args:
        pushed: days that the caller has just pushed.
    """
    with alone(settings, RECOMMENDATIONS.name):
        ranking = _Ranking(settings, known_at)
        days = ranking.days_of_another_version()
        recommended = [ranking.recommend(day) for day in days]
        ranking.push_present({*days, *pushed})
    return recommended


def draft_recommendations(
    day: Day, settings: Settings, known_at: datetime, sequences: pl.DataFrame | None = None
) -> pl.DataFrame:
    """What a day of `recommendations` would hold, from these sequences or those that stand. Nothing is written."""
    return _Ranking(settings, known_at).draft(day, sequences)


class _Ranking(ServedTable):
    """A release's weights are read once."""

    table = RECOMMENDATIONS

    def __init__(self, settings: Settings, known_at: datetime, push: bool = True):
        super().__init__(settings, known_at, push)
        self.releases: dict[int, Release] = {}

    def timeline_of(self, registry: Registry) -> Timeline:
        return Timeline.of(registry, MODEL)

    def facts_of(self, version: Version) -> dict[str, object]:
        return super().facts_of(version) | {"interest_version": int(version.tags["interest_version"])}

    def recommend(self, day: Day) -> RecommendedItems:
        served = self.serve(day)
        if served is None:
            log.info("no items recommended", partition=day.key, reason=NO_MODEL_YET)
            return RecommendedItems(day=day.key, state=NO_MODEL_YET)
        recommended = RecommendedItems(
            day=day.key,
            state="recommended",
            users=served.rows.height,
            items=int(served.rows["item_ids"].list.len().sum()),
            **self.facts_of(served.version),
            pushed=served.pushed,
            changed=served.changed,
        )
        log.info("items recommended", partition=day.key, **recommended.model_dump(exclude={"day", "later_days"}))
        return recommended

    def rows_of(self, sequences: pl.DataFrame, version: Version, day: Day) -> pl.DataFrame:
        """Rows of the contract RECOMMENDATIONS, one for each user of `sequences`."""
        if sequences.is_empty():
            return RECOMMENDATIONS.empty()
        if version.number not in self.releases:
            self.releases[version.number] = load_release(self.registry, version)
        chosen = self.settings.recommending
        lists = ranked_lists(
            self.releases[version.number], sequences, chosen.depth, self.lake, day, chosen.include_seen,
            chosen.diversity,
        )
        return lists.select(
            "user_id",
            "item_ids",
            "scores",
            *facts_of_version(RECOMMENDATIONS, version, day, self.known_at),
        )
