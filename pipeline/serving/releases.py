"""
Loads what serves: an interest version, a release of a filter with the interest version that it was tuned with; and
ranks with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from pipeline.contracts import BEHAVIOR_EVENTS, RECOMMENDATIONS, SEQUENCE_FEATURES
from pipeline.features.histories import FIRST_ITEM, Histories
from pipeline.models.interest_evolution import InterestEvolutionModel
from pipeline.models.release import Release
from pipeline.partitions import Day
from pipeline.stores.model_versions import Version
from pipeline.stores.registry import Registry
from pipeline.stores.tables import Lake, newest_versions

USERS_AT_ONCE = 1024


def load_interest(registry: Registry, version: Version) -> InterestEvolutionModel:
    """Raises UnsafeModel when a file has changed."""
    return InterestEvolutionModel.from_pretrained(registry.fetch(version))


def load_release(registry: Registry, version: Version) -> Release:
    """A version of the collaborative filter, joined with the interest version in its tags. Raises UnsafeModel."""
    bound = registry.version("interest_evolution", int(version.tags["interest_version"]))
    return Release.load(registry.fetch(version), load_interest(registry, bound))


def newest_sequences(lake: Lake, last: Day | None, users: Sequence[str] | None = None) -> pl.DataFrame:
    """Each user's newest row of `sequence_features` up to `last`; whole rows are read only where one lies.

    Args:
        users: None for everybody.
    """
    keys = lake.scan(SEQUENCE_FEATURES, None, last)
    if users is not None:
        keys = keys.join(pl.LazyFrame({"user_id": list(users)}, {"user_id": pl.String}), on="user_id", how="semi")
    keys = keys.group_by("user_id").agg(pl.col("event_timestamp").max()).collect()
    if keys.is_empty():
        return SEQUENCE_FEATURES.empty()
    oldest = Day.of(keys["event_timestamp"].min())
    rows = lake.scan(SEQUENCE_FEATURES, oldest, last).join(keys.lazy(), on=["user_id", "event_timestamp"], how="semi")
    return newest_versions(SEQUENCE_FEATURES, rows).collect()


def ranked_lists(
    release: Release, sequences: pl.DataFrame, depth: int, lake: Lake, last: Day | None, include_seen: bool,
    diversity: float,
) -> pl.DataFrame:
    """The best items of each user of `sequences`: user_id, item_ids, scores, in order of user id.

    Args:
        last: what a user had up to this day is left out, unless `include_seen`.
        diversity: from 0 (by score alone) to 1, how much a list is made of items unlike one another.
    """
    histories = Histories.from_sequences(sequences, release.catalogue, release.event_types)
    seen = None if include_seen else seen_pairs(lake, histories.user_ids, release, last)
    moment = last.end if last is not None else None
    ids = np.array(release.catalogue.item_ids, dtype=object)
    item_ids, item_scores = [], []
    for first in range(0, histories.num_users, USERS_AT_ONCE):
        part = histories.take(np.arange(first, min(first + USERS_AT_ONCE, histories.num_users)))
        pairs = None
        if seen is not None:
            inside = (seen[0] >= first) & (seen[0] < first + part.num_users)
            pairs = seen[0][inside] - first, seen[1][inside]
        items, scores = release.best(part, depth, pairs, moment, diversity)
        for row, values in zip(items, scores, strict=True):
            kept = row >= FIRST_ITEM
            item_ids.append(ids[row[kept]].tolist())
            item_scores.append(values[kept].tolist())
    schema = {name: RECOMMENDATIONS.schema[name] for name in ("user_id", "item_ids", "scores")}
    return pl.DataFrame({"user_id": histories.user_ids.tolist(), "item_ids": item_ids, "scores": item_scores}, schema)


def seen_pairs(lake: Lake, user_ids: np.ndarray, release: Release, last: Day | None) -> tuple[np.ndarray, np.ndarray]:
    """Every item that the users ever had up to a day: positions of users and item indices, two arrays [pairs]."""
    users = pl.LazyFrame({"user_id": user_ids.tolist(), "position": np.arange(len(user_ids))})
    events = lake.scan(BEHAVIOR_EVENTS, None, last).select("user_id", "item_id")
    pairs = events.join(users, on="user_id").select("position", "item_id").unique().collect()
    items = release.catalogue.index_of(pairs["item_id"].to_list())
    known = items >= FIRST_ITEM
    return pairs["position"].to_numpy()[known], items[known].astype(np.int64)
