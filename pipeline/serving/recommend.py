"""
Recommends items to any number of users, now or as of a day: what a user cares about over months, joined with what the
user did last.

The long-term interest is encoded from the newest sequence by the interest version of the release, so an answer is of
one space and never staler than the sequence. A user whom nobody has seen gets what is popular, marked as a fallback.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

import polars as pl
from pydantic import BaseModel, ConfigDict

from pipeline.contracts import BEHAVIOR_EVENTS, ITEMS, MAX_ID_LENGTH, UNKNOWN_TITLE
from pipeline.errors import NotFound, UserMistake
from pipeline.partitions import Day
from pipeline.serving.user_ids import UserIds
from pipeline.settings import Settings
from pipeline.stores.registry import Registry
from pipeline.stores.tables import Lake

MAX_DEPTH = 1000
POPULAR_DAYS = 30
SCHEMA = {
    "user_id": pl.String(),
    "item_id": pl.String(),
    "rank": pl.Int64(),
    "score": pl.Float32(),
    "fallback": pl.Boolean(),
}
"""Ranks begin at 1. `fallback` marks what is popular, given to a user of whom nothing is known."""


class RecommendedItem(BaseModel):
    model_config = ConfigDict(frozen=True)

    rank: int
    item_id: str
    title: str
    score: float


class Recommendation(BaseModel):
    """The answer for one user. `event_time` is the end of the last active day that it knows of."""

    model_config = ConfigDict(frozen=True)

    user_id: str
    status: Literal["found", "not_found"]
    fallback: bool
    event_time: datetime | None
    age_seconds: float | None
    items: list[RecommendedItem]


class Recommendations(BaseModel):
    """The answers, and the one release that they come from; without a release everything is a fallback."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    model_version: int | None
    interest_version: int | None
    space_id: str | None
    model_cutoff: datetime | None
    as_of: str | None
    found: int
    not_found: int
    rows: pl.DataFrame
    """columns of SCHEMA, users in the order in which they were asked for"""
    event_times: dict[str, datetime]
    """of the users who were found"""

    def by_user(self, titles: dict[str, str], now: datetime) -> list[Recommendation]:
        """One object a user, in the order of `rows`."""
        answers = []
        for (user,), part in self.rows.group_by("user_id", maintain_order=True):
            seen = self.event_times.get(user)
            answers.append(
                Recommendation(
                    user_id=user,
                    status="found" if seen else "not_found",
                    fallback=bool(part["fallback"][0]),
                    event_time=seen,
                    age_seconds=(now - seen).total_seconds() if seen else None,
                    items=[
                        RecommendedItem(rank=rank, item_id=item, title=titles.get(item, UNKNOWN_TITLE), score=score)
                        for item, rank, score in part.select("item_id", "rank", "score").iter_rows()
                    ],
                )
            )
        return answers


def recommend(
    settings: Settings,
    user_ids: Sequence[str],
    k: int,
    now: datetime,
    as_of: Day | None = None,
    include_seen: bool | None = None,
) -> Recommendations:
    """The k best items for each user; a user named twice is answered once.

    Args:
        as_of: answer as on this day, with the release that served it and nothing that happened later.
        include_seen: whether what a user has had may be shown again; as the settings say when not given.

    Raises:
        UserMistake: no user, an id that no log can carry, or an impossible k.
        NotFound: no event was ever published, so nothing is known of anybody.
    """
    users = list(dict.fromkeys(user_ids))
    _check(users, k)
    asked = {UserIds.of(settings).stored_id(user): user for user in users}
    users = list(asked)
    # Loading the model libraries takes seconds; a mistake is told before.
    from pipeline.features.histories import FIRST_ITEM
    from pipeline.serving.releases import load_release, newest_sequences, ranked_lists

    lake = Lake.of(settings)
    registry = Registry(settings)
    version = registry.champion("collaborative_filter", as_of.start if as_of else now)
    sequences = newest_sequences(lake, as_of, users)
    include_seen = settings.recommending.include_seen if include_seen is None else include_seen
    ranked, popular = pl.DataFrame(schema=SCHEMA), None
    if version is not None:
        release = load_release(registry, version)
        items, scores = release.popular(k)
        popular = pl.DataFrame(
            {
                "item_id": [release.catalogue.item_ids[item] for item in items if item >= FIRST_ITEM],
                "score": scores[items >= FIRST_ITEM],
            }
        )
        if sequences.height:
            diversity = settings.recommending.diversity
            ranked = _flat(ranked_lists(release, sequences, k, lake, as_of, include_seen, diversity))
    if popular is None:
        popular = _popular(lake, as_of, k)
    known = set(ranked["user_id"].unique())
    unanswered = pl.DataFrame({"user_id": [user for user in users if user not in known]}, {"user_id": pl.String})
    fallback = unanswered.join(
        popular.with_row_index("rank", offset=1).with_columns(fallback=pl.lit(True)), how="cross"
    ).select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())
    order = pl.DataFrame({"user_id": users}, {"user_id": pl.String}).with_row_index("position")
    rows = pl.concat([ranked, fallback]).join(order, on="user_id").sort("position", "rank").drop("position")
    rows = rows.with_columns(pl.col("user_id").replace(asked))
    event_times = {asked[user]: moment for user, moment in sequences.select("user_id", "event_timestamp").iter_rows()}
    return Recommendations(
        model_version=version and version.number,
        interest_version=version and int(version.tags["interest_version"]),
        space_id=version and version.space_id,
        model_cutoff=version and version.model_cutoff,
        as_of=as_of and as_of.key,
        found=len(event_times),
        not_found=len(users) - len(event_times),
        rows=rows,
        event_times=event_times,
    )


def titles_of(settings: Settings, item_ids: Sequence[str]) -> dict[str, str]:
    """The newest title of each item that has one."""
    lake = Lake.of(settings)
    wanted = pl.LazyFrame({"item_id": list(set(item_ids))}, {"item_id": pl.String})
    rows = lake.scan(ITEMS).join(wanted, on="item_id", how="semi").sort("item_id", "valid_from")
    return dict(rows.select("item_id", "title").unique("item_id", keep="last").collect().iter_rows())


def _check(users: list[str], k: int) -> None:
    if not users:
        raise UserMistake("No user was given. Name one, or a file with one user id a line.")
    if not 1 <= k <= MAX_DEPTH:
        raise UserMistake(f"k must be between 1 and {MAX_DEPTH}, not {k}.")
    for user in users:
        if not 0 < len(user) <= MAX_ID_LENGTH:
            raise UserMistake(f"A user id has 1 to {MAX_ID_LENGTH} characters, not {len(user)}.")


def _flat(lists: pl.DataFrame) -> pl.DataFrame:
    """One row an item."""
    exploded = lists.filter(pl.col("item_ids").list.len() > 0).explode("item_ids", "scores")
    return exploded.select(
        "user_id",
        item_id="item_ids",
        rank=pl.int_range(1, pl.len() + 1).over("user_id"),
        score="scores",
        fallback=pl.lit(False),
    ).select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())


def _popular(lake: Lake, as_of: Day | None, k: int) -> pl.DataFrame:
    """What most events of the newest days are of, where there is no release: item_id and score."""
    days = [day for day in lake.days(BEHAVIOR_EVENTS) if as_of is None or day <= as_of]
    if not days:
        raise NotFound("No event has been published, so there is nothing to recommend. Run `interest load` first.")
    first = Day.of(days[-1].start - timedelta(days=POPULAR_DAYS - 1))
    counted = lake.scan(BEHAVIOR_EVENTS, first, days[-1]).group_by("item_id").agg(score=pl.len().cast(pl.Float32))
    return counted.sort(["score", "item_id"], descending=[True, False]).head(k).collect()
