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

from pipeline.contracts import INTEREST_WINDOWS, WINDOW_DAYS
from pipeline.features.active_days import ActiveDays
from pipeline.features.item_categories import Categories, categories_of
from pipeline.features.ragged import (
    MICROSECONDS_A_DAY,
    concatenated_ranges,
    days_of,
    ends_of_days,
    in_order,
    lists_of,
    numbered,
)

COUNTS = tuple(f"counts_{days}d" for days in WINDOW_DAYS)
TOP_BY = WINDOW_DAYS.index(30)
NUM_TOP = 5


def extend_windows(
    previous: pl.DataFrame,
    events: pl.DataFrame,
    items: pl.DataFrame,
    weights: Mapping[str, float],
    newest_only: bool = False,
) -> pl.DataFrame:
    """The rows of `interest_windows` that `events` bring about, without `created`.

    Args:
        previous: at most one row a user, the newest one before the first event's day (contract INTEREST_WINDOWS).
        events: whole days of events, in any order (contract BEHAVIOR_EVENTS).
        items: the catalogue (contract ITEMS). An event counts for the categories its item had at the event's time.
        weights: by event type. A type without a weight counts 0.
        newest_only: leave out all but each user's last row.

    Returns:
        A row for each user and active day, by user and day.
    """
    schema = {name: dtype for name, dtype in INTEREST_WINDOWS.schema.items() if name != "created"}
    if events.is_empty():
        return pl.DataFrame(schema=schema)
    ordered = in_order(events.select("user_id", "item_id", "event_type", "event_time", "event_id"))
    days = ActiveDays.of(ordered)
    before = days.before(previous.select("user_id", "categories", *COUNTS, "num_events", "active_days",
                                         pl.Series("day", days_of(previous["event_timestamp"]), dtype=pl.Int64)))
    previous_day = np.roll(days.day, 1).astype(np.float64)
    previous_day[days.first_row] = before["day"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    since = days.day - previous_day
    touched = _fold(ordered, days, np.nan_to_num(since), before, items, weights, newest_only)
    rows = days.newest if newest_only else np.arange(len(days.day))
    owner = days.user[rows]
    top, num_top = _largest(touched)
    events_so_far = days.end[rows] - days.first_event[owner] + before["num_events"].fill_null(0).to_numpy()[owner]
    days_so_far = rows - days.first_row[owner] + 1 + before["active_days"].fill_null(0).to_numpy()[owner]
    return pl.DataFrame(
        {
            "user_id": days.user_ids.gather(pl.Series(owner)),
            "categories": lists_of(touched.names.gather(pl.Series(touched.categories)), touched.lengths),
            **{name: lists_of(pl.Series(touched.counts[i]), touched.lengths) for i, name in enumerate(COUNTS)},
            "top_categories": lists_of(touched.names.gather(pl.Series(touched.categories[top])), num_top),
            "entropy": _entropy(touched),
            "num_events": events_so_far,
            "active_days": days_so_far,
            "days_since_previous": pl.Series(since[rows]).fill_nan(None),
            "event_timestamp": ends_of_days(days.day[rows]),
        },
        schema=schema,
    )


@dataclass(frozen=True)
class _Touched:
    """The categories of every row, ragged: row `r` owns the next `lengths[r]` entries, at least one."""

    names: pl.Series
    categories: np.ndarray
    """int64 [entries], positions in `names`"""
    counts: np.ndarray
    """float64 [windows, entries]"""
    lengths: np.ndarray
    """int64 [rows]"""

    @property
    def starts(self) -> np.ndarray:
        return np.cumsum(self.lengths) - self.lengths


def _fold(
    ordered: pl.DataFrame,
    days: ActiveDays,
    since: np.ndarray,
    before: pl.DataFrame,
    items: pl.DataFrame,
    weights: Mapping[str, float],
    newest_only: bool,
) -> _Touched:
    """Walk through every user's active days, all users at once, and keep the counts after each (or the last).

    Users stand by how many active days they have, the most first: those who have a further day are then a slice.
    """
    remembered = before.select("categories", *COUNTS).with_row_index("user").drop_nulls("categories")
    remembered = remembered.explode("categories", *COUNTS)
    categories = categories_of(ordered, items, also=remembered["categories"])
    by_days = np.argsort(-days.num_rows, kind="stable")
    place = np.empty_like(by_days)
    place[by_days] = np.arange(len(by_days))

    row_of_event = np.repeat(np.arange(len(days.day)), np.diff(days.end, prepend=0))
    row = np.repeat(row_of_event, categories.num_of_event)
    keys = np.concatenate([
        place[remembered["user"].to_numpy()] * len(categories.names) + categories.codes_of(remembered["categories"]),
        place[days.user[row]] * len(categories.names) + categories.code,
    ])
    pairs, pair = numbered(keys, len(by_days) * len(categories.names))
    known, pair = pair[: remembered.height], pair[remembered.height :]
    ends = np.searchsorted(pairs, np.arange(1, len(by_days) + 1) * len(categories.names))
    lengths = np.diff(ends, prepend=0)

    counts, has = np.zeros((len(WINDOW_DAYS), len(pairs))), np.zeros(len(pairs), dtype=bool)
    counts[:, known] = remembered.select(COUNTS).to_numpy().T
    has[known] = True
    amounts = _amounts(ordered, categories, weights)
    step_of = (row - days.first_row[days.user[row]]).astype(np.uint16 if days.num_rows.max() < 2**16 else np.int64)
    by_step = np.argsort(step_of, kind="stable")
    step_ends = np.cumsum(np.bincount(step_of))
    active = np.searchsorted(-days.num_rows[by_days], -np.arange(days.num_rows.max()), side="left")
    kept, kept_rows = [], []
    for step, users in enumerate(active):
        rows = days.first_row[by_days[:users]] + step
        now = slice(0, ends[users - 1])
        parts = by_step[step_ends[step - 1] if step else 0 : step_ends[step]]
        for window, half_life in enumerate(WINDOW_DAYS):
            counts[window, now] *= np.repeat(_halved(since[rows], half_life), lengths[:users])
            np.add.at(counts[window], pair[parts], amounts[window, parts])
        has[pair[parts]] = True
        if not newest_only:
            entries = np.flatnonzero(has[now])
            kept.append((pairs[entries] % len(categories.names), counts[:, entries]))
            kept_rows.append((rows, np.diff(np.searchsorted(entries, ends[:users]), prepend=0)))
    if newest_only:
        order, num = concatenated_ranges((ends - lengths)[place], lengths[place]), lengths[place]
        return _Touched(categories.names, (pairs % len(categories.names))[order], counts[:, order], num)
    rows, num = (np.concatenate(column) for column in zip(*kept_rows, strict=True))
    start, length = np.empty_like(rows), np.empty_like(rows)
    start[rows], length[rows] = np.cumsum(num) - num, num
    order = concatenated_ranges(start, length)
    codes, values = np.concatenate([c for c, _ in kept]), np.concatenate([v for _, v in kept], axis=1)
    return _Touched(categories.names, codes[order], values[:, order], length)


def _amounts(ordered: pl.DataFrame, categories: Categories, weights: Mapping[str, float]) -> np.ndarray:
    """float64 [windows, parts]: what each event adds to each of its categories, as of the end of its day."""
    times = ordered["event_time"].dt.epoch("us").to_numpy()
    age = (MICROSECONDS_A_DAY - 1 - times % MICROSECONDS_A_DAY) / MICROSECONDS_A_DAY
    weight = ordered["event_type"].replace_strict(dict(weights), default=0.0, return_dtype=pl.Float64).to_numpy()
    weight = weight / categories.num_of_event
    amounts = np.stack([weight * _halved(age, half_life) for half_life in WINDOW_DAYS])
    return np.repeat(amounts, categories.num_of_event, axis=1)


def _halved(days: np.ndarray, half_life: int) -> np.ndarray:
    """What is left of 1 after `days`."""
    return np.exp2(days / -half_life)


def _largest(touched: _Touched) -> tuple[np.ndarray, np.ndarray]:
    """Entries of each row's largest counts, largest first (ties by name), and how many each row has."""
    counts, starts = touched.counts[TOP_BY].copy(), touched.starts
    found = np.full((len(starts), NUM_TOP), -1)
    for rank in range(NUM_TOP):
        largest = np.repeat(np.maximum.reduceat(counts, starts), touched.lengths)
        entries = np.flatnonzero((counts == largest) & (counts > -np.inf))
        owners = np.searchsorted(starts, entries, side="right") - 1
        firsts = np.flatnonzero(np.diff(owners, prepend=-1))
        found[owners[firsts], rank] = entries[firsts]
        counts[entries[firsts]] = -np.inf
    return found[found >= 0], np.minimum(touched.lengths, NUM_TOP)


def _entropy(touched: _Touched) -> np.ndarray:
    """Nats, [rows]: 0 for one category, log(n) for n equal ones; 0 where every count has vanished."""
    owners, counts = np.repeat(np.arange(len(touched.lengths)), touched.lengths), touched.counts[TOP_BY]
    total = np.bincount(owners, weights=counts, minlength=len(touched.lengths))[owners]
    share = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    surprise = -share * np.log(share, out=np.zeros_like(share), where=share > 0)
    return np.maximum(np.bincount(owners, weights=surprise, minlength=len(touched.lengths)), 0.0) + 0.0
