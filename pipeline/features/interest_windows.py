"""
How much each category occupies a user: event weights, halved every 7, 30 and 180 days.

    counts(day) = counts(previous active day) · 2^(-days between / half-life)
                + sum over the day's events of weight · share of the category · 2^(-age at the day's end / half-life)

The fold walks through a user's active days in order and adds in one fixed order, so that a history in one pass and
the same history day by day agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from pipeline.contracts import INTEREST_WINDOWS, UNCATEGORISED, WINDOW_DAYS
from pipeline.features.ragged import (
    MICROSECONDS_A_DAY,
    concatenated_ranges,
    days_of,
    ends_of_days,
    lists_of,
    starts_of_runs,
)

COUNTS = tuple(f"counts_{days}d" for days in WINDOW_DAYS)
TOP_BY = WINDOW_DAYS.index(30)
NUM_TOP = 5


def extend_windows(
    previous: pl.DataFrame, events: pl.DataFrame, items: pl.DataFrame, weights: Mapping[str, float]
) -> pl.DataFrame:
    """The rows of `interest_windows` that `events` bring about, without `created`.

    Args:
        previous: at most one row a user, the newest one before the first event's day (contract INTEREST_WINDOWS).
        events: whole days of events, in any order (contract BEHAVIOR_EVENTS).
        items: the catalogue (contract ITEMS). An event counts for the categories its item had at the event's time.
        weights: by event type. A type without a weight counts 0.

    Returns:
        A row for each user and active day, by user and day.
    """
    schema = {name: dtype for name, dtype in INTEREST_WINDOWS.schema.items() if name != "created"}
    if events.is_empty():
        return pl.DataFrame(schema=schema)
    ordered = _with_categories(events, items).sort("user_id", "event_time", "event_id")
    rows = _active_days(ordered, previous)
    touched = _fold(ordered, rows, previous, weights)
    top, num_top = _largest(touched)
    days = rows["day"].to_numpy()
    since = pl.Series(days).cast(pl.Float64) - rows["previous_day"]
    return pl.DataFrame(
        {
            "user_id": rows["user_id"],
            "categories": lists_of(touched.categories, touched.lengths),
            **{name: lists_of(pl.Series(touched.counts[:, i]), touched.lengths) for i, name in enumerate(COUNTS)},
            "top_categories": lists_of(touched.categories.gather(pl.Series(top)), num_top),
            "entropy": _entropy(touched),
            "num_events": rows["num_events"],
            "active_days": rows["active_days"],
            "days_since_previous": since,
            "event_timestamp": ends_of_days(days),
        },
        schema=schema,
    )


@dataclass(frozen=True)
class _Touched:
    """The categories of every row, ragged: row `r` owns the next `lengths[r]` entries."""

    categories: pl.Series
    counts: np.ndarray
    """float64 [entries, windows]"""
    lengths: np.ndarray
    """int64 [rows]"""

    @property
    def owners(self) -> np.ndarray:
        return np.repeat(np.arange(len(self.lengths)), self.lengths)


def _with_categories(events: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Events with the `categories` that their items had at that time; never empty."""
    described = items.select("item_id", "valid_from", pl.col("categories").list.drop_nulls().list.unique().list.sort())
    joined = events.select("user_id", "item_id", "event_type", "event_time", "event_id").sort("event_time")
    joined = joined.join_asof(
        described.sort("valid_from"), left_on="event_time", right_on="valid_from", by="item_id", check_sortedness=False
    )
    known = pl.col("categories").list.len().fill_null(0) > 0
    return joined.with_columns(
        pl.when(known).then(pl.col("categories")).otherwise(pl.lit([UNCATEGORISED], dtype=pl.List(pl.String())))
    )


def _active_days(ordered: pl.DataFrame, previous: pl.DataFrame) -> pl.DataFrame:
    """A row for each user and active day with what was counted until its end, and the active day before."""
    rows = (
        ordered.select("user_id", pl.Series("day", days_of(ordered["event_time"])))
        .group_by("user_id", "day", maintain_order=True)
        .agg(pl.len().cast(pl.Int64).alias("events"))
    )
    before = previous.select(
        "user_id",
        pl.col("num_events").alias("events_before"),
        pl.col("active_days").alias("days_before"),
        pl.Series("day_before", days_of(previous["event_timestamp"]), dtype=pl.Int64),
    )
    rows = rows.join(before, on="user_id", how="left", maintain_order="left")
    return rows.select(
        "user_id",
        "day",
        pl.col("day").shift(1).over("user_id").fill_null(pl.col("day_before")).alias("previous_day"),
        pl.int_range(pl.len()).over("user_id").alias("rank"),
        (pl.col("events").cum_sum().over("user_id") + pl.col("events_before").fill_null(0)).alias("num_events"),
        (pl.int_range(1, pl.len() + 1).over("user_id") + pl.col("days_before").fill_null(0)).alias("active_days"),
    )


def _fold(ordered: pl.DataFrame, rows: pl.DataFrame, previous: pl.DataFrame, weights: Mapping[str, float]) -> _Touched:
    """Walk through every user's active days, all users at once, and keep the counts after each."""
    concerned = previous.join(rows.select("user_id"), on="user_id", how="semi")
    remembered = concerned.select("user_id", "categories", *COUNTS).explode("categories", *COUNTS)
    remembered = remembered.rename({"categories": "category"})
    parts = ordered.with_row_index("event").explode("categories").rename({"categories": "category"})
    pairs = pl.concat([remembered.select("user_id", "category"), parts.select("user_id", "category")])
    pairs = pairs.unique().sort("user_id", "category").with_row_index("pair")

    counts = np.zeros((pairs.height, len(WINDOW_DAYS)))
    has = np.zeros(pairs.height, dtype=bool)
    standing = remembered.join(pairs, on=["user_id", "category"], how="left", maintain_order="left")
    position = standing["pair"].to_numpy()
    counts[position] = standing.select(COUNTS).to_numpy()
    has[position] = True

    cell_rows, cell_pairs, cell_sums = _sums_of_days(ordered, parts, pairs, weights)
    of_user = pairs.group_by("user_id", maintain_order=True).agg(pl.col("pair").first(), pl.len())
    owned = rows.select("user_id").join(of_user, on="user_id", how="left", maintain_order="left")
    first_pair, num_pairs = owned["pair"].to_numpy(), owned["len"].to_numpy()
    gaps = (rows["day"] - rows["previous_day"]).fill_null(0).to_numpy()
    rank = rows["rank"].to_numpy()

    kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    cell_rank = rank[cell_rows]
    by_rank = np.argsort(rank, kind="stable")
    cells_by_rank = np.argsort(cell_rank, kind="stable")
    bounds = np.arange(rank.max() + 2)
    row_bounds = np.searchsorted(rank[by_rank], bounds)
    cell_bounds = np.searchsorted(cell_rank[cells_by_rank], bounds)
    for step in range(len(bounds) - 1):
        now = by_rank[row_bounds[step] : row_bounds[step + 1]]
        cells = cells_by_rank[cell_bounds[step] : cell_bounds[step + 1]]
        theirs = concatenated_ranges(first_pair[now], num_pairs[now])
        owners = np.repeat(now, num_pairs[now])
        counts[theirs] *= _halved(gaps[now])[np.repeat(np.arange(len(now)), num_pairs[now])]
        counts[cell_pairs[cells]] += cell_sums[cells]
        has[cell_pairs[cells]] = True
        known = has[theirs]
        kept.append((owners[known], theirs[known], counts[theirs[known]]))
    owners, kept_pairs, kept_counts = (np.concatenate(column) for column in zip(*kept, strict=True))
    order = np.argsort(owners, kind="stable")
    return _Touched(
        categories=pairs["category"].gather(pl.Series(kept_pairs[order])),
        counts=kept_counts[order],
        lengths=np.bincount(owners, minlength=rows.height),
    )


def _sums_of_days(
    ordered: pl.DataFrame, parts: pl.DataFrame, pairs: pl.DataFrame, weights: Mapping[str, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each day adds to each (user, category): row, pair and float64 [cells, windows], events in order."""
    times = ordered["event_time"].dt.epoch("us").to_numpy()
    day = days_of(ordered["event_time"])
    age = ((day + 1) * MICROSECONDS_A_DAY - 1 - times) / MICROSECONDS_A_DAY
    weight = ordered["event_type"].replace_strict(dict(weights), default=0.0, return_dtype=pl.Float64).to_numpy()
    weight = weight / ordered["categories"].list.len().to_numpy()
    row = np.cumsum(starts_of_runs(ordered["user_id"], pl.Series(day))) - 1
    amounts = weight[:, None] * _halved(age)

    event = parts["event"].to_numpy()
    pair = parts.join(pairs, on=["user_id", "category"], how="left", maintain_order="left")["pair"].to_numpy()
    codes = row[event].astype(np.int64) * pairs.height + pair
    cells, cell_of = np.unique(codes, return_inverse=True)
    # bincount adds in the order of its input: the order of (event_time, event_id), whatever else is in the batch.
    sums = [np.bincount(cell_of, weights=amounts[event, i], minlength=len(cells)) for i in range(len(WINDOW_DAYS))]
    return cells // pairs.height, cells % pairs.height, np.stack(sums, axis=1)


def _halved(days: np.ndarray) -> np.ndarray:
    """float64 [n, windows]: what is left of 1 after `days`, for each half-life."""
    return np.exp2(-(days.astype(np.float64)[:, None] / np.array(WINDOW_DAYS, dtype=np.float64)))


def _largest(touched: _Touched) -> tuple[np.ndarray, np.ndarray]:
    """Entries of each row's largest counts, largest first (ties by name), and how many each row has."""
    owners = touched.owners
    order = np.lexsort((np.arange(len(owners)), -touched.counts[:, TOP_BY], owners))
    rank = np.arange(len(owners)) - np.repeat(np.cumsum(touched.lengths) - touched.lengths, touched.lengths)
    return order[rank < NUM_TOP], np.minimum(touched.lengths, NUM_TOP)


def _entropy(touched: _Touched) -> np.ndarray:
    """Nats, [rows]: 0 for one category, log(n) for n equal ones; 0 where every count has vanished."""
    owners, counts = touched.owners, touched.counts[:, TOP_BY]
    total = np.bincount(owners, weights=counts, minlength=len(touched.lengths))[owners]
    share = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    surprise = -share * np.log(share, out=np.zeros_like(share), where=share > 0)
    return np.maximum(np.bincount(owners, weights=surprise, minlength=len(touched.lengths)), 0.0) + 0.0
