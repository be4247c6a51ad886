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
from pipeline.steps.serving_days import (
    NO_MODEL_YET,
    Timeline,
    days_behind_their_sequences,
    days_of_another_version,
    facts_of_version,
    is_for_everyone,
    sequences_to_serve,
    skip_day,
    write_day,
)
from pipeline.steps.unpushed import first_day_of_the_present, push_unpushed
from pipeline.stores.feature_store import push_online
from pipeline.stores.ledger import Ledger
from pipeline.stores.locks import alone
from pipeline.stores.model_versions import Version
from pipeline.stores.registry import Registry
from pipeline.stores.tables import Lake

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
        later = days_behind_their_sequences(ranking.lake, ranking.ledger, RECOMMENDATIONS, day)
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
        days = days_of_another_version(ranking.ledger, RECOMMENDATIONS, ranking.timeline)
        recommended = [ranking.recommend(day) for day in days]
        ranking.push_since(first_day_of_the_present(ranking.lake, RECOMMENDATIONS, ranking.timeline), {*days, *pushed})
    return recommended


def draft_recommendations(
    day: Day, settings: Settings, known_at: datetime, sequences: pl.DataFrame | None = None
) -> pl.DataFrame:
    """What a day of `recommendations` would hold, from these sequences or those that stand. Nothing is written."""
    return _Ranking(settings, known_at).draft(day, sequences)


class _Ranking:
    """The stores of one run; a release's weights are read once."""

    def __init__(self, settings: Settings, known_at: datetime, push: bool = True):
        self.settings, self.known_at, self.push = settings, known_at, push
        self.lake = Lake.of(settings)
        self.ledger, self.registry = Ledger(settings.ledger_url), Registry(settings)
        self.timeline = Timeline.of(self.registry, MODEL)
        self.releases: dict[int, Release] = {}

    def recommend(self, day: Day) -> RecommendedItems:
        version, is_new = self.timeline.serving(day)
        if version is None:
            skip_day(self.ledger, RECOMMENDATIONS, day, self.known_at)
            log.info("no items recommended", partition=day.key, reason=NO_MODEL_YET)
            return RecommendedItems(day=day.key, state=NO_MODEL_YET)
        everyone = is_for_everyone(self.ledger, RECOMMENDATIONS, day, is_new)
        sequences = sequences_to_serve(self.lake, day, everyone)
        rows = self.rank(sequences, version, day)
        interest_version = int(version.tags["interest_version"])
        details = {
            "model_version": version.number,
            "interest_version": interest_version,
            "space_id": version.space_id,
            "everyone": everyone,
        }
        stores = self.settings, self.lake, self.ledger
        committed = write_day(*stores, RECOMMENDATIONS, day, rows, details, self.known_at)
        # What is pushed is what stands in the table: an unchanged row keeps the time at which it was first known.
        standing = self.lake.current(RECOMMENDATIONS, day, day).collect()
        pushed = push_online(self.settings, RECOMMENDATIONS.name, standing).accepted if self.push else 0
        recommended = RecommendedItems(
            day=day.key,
            state="recommended",
            users=rows.height,
            items=int(rows["item_ids"].list.len().sum()),
            model_version=version.number,
            interest_version=interest_version,
            space_id=version.space_id,
            pushed=pushed,
            changed=committed.changed,
        )
        log.info("items recommended", partition=day.key, **recommended.model_dump(exclude={"day", "later_days"}))
        return recommended

    def push_since(self, day: Day | None, pushed: Collection[Day]) -> None:
        """Push the days from `day` on that this run has not pushed; a dead one may have left them so."""
        if self.push:
            push_unpushed(self.settings, self.lake, RECOMMENDATIONS, day, pushed)

    def draft(self, day: Day, sequences: pl.DataFrame | None) -> pl.DataFrame:
        version, is_new = self.timeline.serving(day)
        if version is None:
            return RECOMMENDATIONS.empty()
        everyone = is_for_everyone(self.ledger, RECOMMENDATIONS, day, is_new)
        return self.rank(sequences_to_serve(self.lake, day, everyone, sequences), version, day)

    def rank(self, sequences: pl.DataFrame, version: Version, day: Day) -> pl.DataFrame:
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
