"""
How interest moved: of everybody, week by week, and of the users who moved most.

A count is shared equally among an item's categories and weighted by its event type, as in the interest windows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from pipeline.contracts import UNCATEGORISED

SHOWN_CATEGORIES = 7
REST = "all others"


@dataclass(frozen=True)
class Mix:
    """The population's interest: `shares[period, name]`, rows add up to 1; the last name may be REST."""

    starts: tuple[date, ...]
    names: tuple[str, ...]
    shares: np.ndarray
    events: tuple[int, ...]

    @property
    def has_rest(self) -> bool:
        return bool(self.names) and self.names[-1] == REST


@dataclass(frozen=True)
class Mover:
    """One user whose interest moved; `before` and `after` are aligned with `names` and add up to 1."""

    label: str
    distance: float
    names: tuple[str, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    before_day: date
    after_day: date
    num_events: int


def population_mix(counts: pl.DataFrame, items: pl.DataFrame, weights: Mapping[str, float]) -> Mix | None:
    """The share of each category in each period; None where there is no event.

    Args:
        counts: `period` (Date), `item_id`, `event_type`, `rows`: events counted by these three.
        items: `item_id`, `categories`; an item that is not in it counts as uncategorised.
        weights: how much an event type counts; a type that is not named counts 1.
    """
    if counts.is_empty():
        return None
    weight = pl.col("event_type").replace_strict(dict(weights), default=1.0, return_dtype=pl.Float64)
    known = items.unique("item_id", keep="last", maintain_order=True).select("item_id", "categories")
    placed = counts.join(known, on="item_id", how="left").with_columns(
        pl.when(pl.col("categories").list.len().fill_null(0) > 0)
        .then(pl.col("categories"))
        .otherwise(pl.lit([UNCATEGORISED], dtype=pl.List(pl.String)))
        .alias("categories")
    )
    spread = placed.with_columns((weight * pl.col("rows") / pl.col("categories").list.len()).alias("weight")).explode(
        "categories"
    )
    sums = spread.group_by("period", "categories").agg(pl.col("weight").sum()).sort("period", "categories")
    totals = (
        sums.group_by("categories").agg(pl.col("weight").sum()).sort(["weight", "categories"], descending=[True, False])
    )
    names = _shown(totals["categories"].to_list())
    starts = counts["period"].unique().sort().to_list()
    row_of = {start: i for i, start in enumerate(starts)}
    column_of = {name: i for i, name in enumerate(names)}
    table = np.zeros((len(starts), len(names)))
    for start, category, value in sums.iter_rows():
        table[row_of[start], column_of.get(category, len(names) - 1)] += value
    heights = table.sum(axis=1, keepdims=True)
    shares = np.divide(table, heights, out=np.zeros_like(table), where=heights > 0)
    events = counts.group_by("period").agg(pl.col("rows").sum()).sort("period")["rows"].to_list()
    return Mix(tuple(starts), names, shares, tuple(events))


def most_moved(
    before: pl.DataFrame, after: pl.DataFrame, names: Sequence[str], how_many: int, least_events: int = 20
) -> list[Mover]:
    """The users whose category mix differs most between two of their rows of `interest_windows`.

    Args:
        before, after: one row a user with `user_id, categories, counts_30d, num_events, event_timestamp`. `after`
            is the later one. A user counts with at least `least_events` events before, and as many more since.
        names: the categories that the page shows; the others are summed into REST.

    The distance is the total variation of the two mixes over all categories, between 0 (same) and 1 (nothing shared).
    """
    pairs = before.join(after, on="user_id", suffix="_after").filter(
        (pl.col("num_events") >= least_events) & (pl.col("num_events_after") - pl.col("num_events") >= least_events)
    )
    if pairs.is_empty():
        return []
    long = pl.concat(
        pairs.select("user_id", pl.col(f"categories{end}").alias("category"), pl.col(f"counts_30d{end}").alias(when))
        .explode("category", when)
        .with_columns(pl.col(when) / pl.col(when).sum().over("user_id"))
        .unpivot(index=["user_id", "category"], variable_name="when", value_name="share")
        for end, when in (("", "before"), ("_after", "after"))
    )
    wide = long.pivot("when", index=["user_id", "category"], values="share", aggregate_function="sum").fill_null(0.0)
    distance = (
        wide.group_by("user_id")
        .agg(((pl.col("after") - pl.col("before")).abs().sum() / 2).alias("distance"))
        .filter(pl.col("distance").is_finite())
        .sort(["distance", "user_id"], descending=[True, False])
        .head(how_many)
    )
    chosen = pairs.join(distance, on="user_id").sort(["distance", "user_id"], descending=[True, False])
    return [
        _mover(row, wide.filter(pl.col("user_id") == row["user_id"]), names) for row in chosen.iter_rows(named=True)
    ]


def short_id(user_id: str) -> str:
    """A user as a report may name him: at most a third of the id, and a digest to tell it from its neighbours."""
    digest = hashlib.sha256(user_id.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    start = "".join(c for c in user_id[: min(3, len(user_id) // 3)] if c.isalnum())
    return f"{start}…{digest}"


def _shown(ordered: Sequence[str]) -> tuple[str, ...]:
    if len(ordered) <= SHOWN_CATEGORIES:
        return tuple(ordered)
    return (*ordered[:SHOWN_CATEGORIES], REST)


def _mover(row: dict, mixes: pl.DataFrame, names: Sequence[str]) -> Mover:
    shown = [name for name in names if name != REST]
    share = {name: (b, a) for name, b, a in mixes.select("category", "before", "after").iter_rows()}
    before = [share.get(name, (0.0, 0.0))[0] for name in shown]
    after = [share.get(name, (0.0, 0.0))[1] for name in shown]
    return Mover(
        label=short_id(row["user_id"]),
        distance=row["distance"],
        names=(*shown, REST),
        before=(*before, max(1.0 - sum(before), 0.0)),
        after=(*after, max(1.0 - sum(after), 0.0)),
        before_day=row["event_timestamp"].date(),
        after_day=row["event_timestamp_after"].date(),
        num_events=row["num_events_after"] - row["num_events"],
    )
