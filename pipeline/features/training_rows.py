"""
Cuts histories into training rows. What a row of time t holds was known at t; only its labels come later.

Inputs of a position: the user's events up to and including it, and the popularity of items as counted before its day
began. Labels: the next event; all events of the next `horizon_days`, from the next day on, because the vector of a
day is used on the days that follow it; the category mix of the next `period_days`, from the next day on as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from pipeline.features.histories import FIRST_ITEM, Histories, microseconds_of

DAY = 86_400_000_000
"""Microseconds."""
TREND_DAYS = (7, 30)
"""The windows over which popularity is counted."""
MAX_TREND_CELLS = 20_000_000


@dataclass(frozen=True)
class PopularityTrend:
    """Log counts of every item over the last 7 and 30 days, as known at the start of each day.

    A catalogue too large for daily steps gets longer ones, never ones that look ahead; windows are as long as ever.
    """

    first: int
    """Microseconds since 1970: where step 0 begins, a midnight in UTC."""
    step: int
    """Microseconds from one step to the next."""
    log_counts: np.ndarray
    """float32 [steps, 2, num_items]: log(1 + events in the 7 and 30 days before the step begins)"""

    @classmethod
    def of(cls, histories: Histories, num_items: int) -> PopularityTrend:
        """Count all users' events; the last step begins after the last event."""
        if histories.num_events == 0:
            return cls(0, DAY, np.zeros((1, len(TREND_DAYS), num_items), dtype=np.float32))
        first = int(histories.times.min()) // DAY * DAY
        days = (int(histories.times.max()) - first) // DAY + 2
        days_a_step = max(1, -(-days * num_items * len(TREND_DAYS) // MAX_TREND_CELLS))
        step = days_a_step * DAY
        steps = -(-days // days_a_step) + 1
        order = np.argsort(histories.times, kind="stable")
        times, items = histories.times[order], histories.items[order]
        begins = first + step * np.arange(steps)
        log_counts = np.zeros((steps, len(TREND_DAYS), num_items), dtype=np.float32)
        for row, days in enumerate(TREND_DAYS):
            edges = np.searchsorted(times, np.stack([begins - days * DAY, begins], axis=1))    # [steps, 2]
            for at, (since, until) in enumerate(edges):
                log_counts[at, row] = np.log1p(np.bincount(items[since:until], minlength=num_items))
        return cls(first, step, log_counts)

    def rows_of(self, times: np.ndarray) -> np.ndarray:
        """int64: for each time the step that had begun by then, 0 (nothing known) for times before the first."""
        return np.clip((times - self.first) // self.step, 0, len(self.log_counts) - 1)


def popularity_at(histories: Histories, num_items: int, as_of: datetime) -> np.ndarray:
    """float32 [2, num_items]: the same log counts at one moment, from events before it."""
    end = microseconds_of(as_of)
    counts = []
    for window in TREND_DAYS:
        recent = (histories.times < end) & (histories.times >= end - window * DAY)
        counts.append(np.bincount(histories.items[recent], minlength=num_items))
    return np.log1p(np.stack(counts).astype(np.float32))


@dataclass(frozen=True)
class TrainingRows:
    """Windows of consecutive events of one user; position numbers are those of `histories`' flat arrays."""

    histories: Histories
    starts: np.ndarray
    """int64 [rows]: the first event of each row"""
    ends: np.ndarray
    """int64 [rows]: one past the last event of each row"""
    wanted: np.ndarray
    """int64 [wanted + 1]: positions of the events that may be asked for, ascending; then one that is never drawn"""
    next_of: np.ndarray
    """int64 [events]: position of the user's next wanted event, -1 after the last"""
    future_starts: np.ndarray
    """int64 [events]: the user's first event of a later day"""
    horizon_ends: np.ndarray
    """int64 [events]: one past the last event within the horizon; not above `future_starts` where there is none"""
    period_ends: np.ndarray
    """int64 [events]: the same for the period of the category mix"""
    trend: PopularityTrend
    trend_rows: np.ndarray
    """int64 [events]: the step of `trend` that had begun when the event happened"""

    @property
    def num_rows(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> np.ndarray:
        return self.ends - self.starts


def build_training_rows(
    histories: Histories,
    num_items: int,
    max_length: int,
    horizon_days: float,
    period_days: float,
    labels_from: datetime | np.ndarray | None = None,
    new_items_only: bool = False,
) -> TrainingRows:
    """Rows of at most `max_length` events that follow each other, cut from each user's end backwards.

    Args:
        histories: only events that may be trained on; cut them with `before` first.
        labels_from: when given, positions whose next event is earlier have no label, and rows without any label
            are left out. So a validation period is scored with the whole history before it as input. A mask [events]
            instead of a moment says which events are labels; of each user they are the newest ones.
        new_items_only: whether only a user's first event with an item is asked for.
    """
    lengths, offsets = histories.lengths, histories.offsets
    windows = -(-lengths // max_length)                                     # [users]
    if labels_from is not None:
        windows = np.minimum(windows, 1)
    user = np.repeat(np.arange(histories.num_users), windows)
    nth = np.arange(len(user)) - np.repeat(np.cumsum(windows) - windows, windows)
    ends = offsets[user + 1] - nth * max_length
    starts = np.maximum(ends - max_length, offsets[user])

    is_wanted = histories.items >= FIRST_ITEM
    if new_items_only:
        is_wanted &= _is_first(histories)
    trend = PopularityTrend.of(histories, num_items)
    rows = TrainingRows(
        histories=histories,
        starts=starts,
        ends=ends,
        wanted=np.append(np.flatnonzero(is_wanted), max(histories.num_events - 1, 0)),
        next_of=_next_of(histories, is_wanted),
        future_starts=_ends_within(histories, 0),
        horizon_ends=_ends_within(histories, horizon_days),
        period_ends=_ends_within(histories, period_days),
        trend=trend,
        trend_rows=trend.rows_of(histories.times),
    )
    if labels_from is None:
        return rows
    is_label = labels_from if isinstance(labels_from, np.ndarray) else histories.times >= microseconds_of(labels_from)
    return _with_labels(rows, is_label)


def _is_first(histories: Histories) -> np.ndarray:
    """bool [events]: the user had no earlier event with this item."""
    pair = histories.owners * (int(histories.items.max(initial=0)) + 1) + histories.items
    found = np.zeros(histories.num_events, dtype=bool)
    found[np.unique(pair, return_index=True)[1]] = True
    return found


def _next_of(histories: Histories, is_wanted: np.ndarray) -> np.ndarray:
    """int64 [events]: position of the user's next event of a mask [events], -1 where none follows."""
    positions = np.append(np.flatnonzero(is_wanted), histories.num_events)
    following = positions[np.cumsum(is_wanted)]                             # [events]
    return np.where(following < histories.offsets[1:][histories.owners], following, -1)


def _ends_within(histories: Histories, days: float) -> np.ndarray:
    """int64 [events]: one past the user's last event within `days` after the end of each event's own day."""
    if histories.num_events == 0:
        return np.zeros(0, dtype=np.int64)
    first_midnight = int(histories.times.min()) // DAY * DAY
    seconds = (histories.times - first_midnight) // 1_000_000
    day_ends = (seconds // 86_400 + 1) * 86_400
    reach = int(days * 86_400)
    lane = histories.owners * (int(day_ends.max()) + reach + 1)             # users side by side on one time axis
    return np.searchsorted(lane + seconds, lane + day_ends + reach, side="left")


def _with_labels(rows: TrainingRows, is_label: np.ndarray) -> TrainingRows:
    """Keep as labels only the events of a mask, each predicted from what was known just before it."""
    labelled = (rows.next_of >= 0) & np.append(is_label[1:], False)         # what follows a label is one as well
    nothing = np.where(labelled, len(labelled), 0)
    any_label = np.concatenate([[0], np.cumsum(labelled)])
    kept = any_label[rows.ends] > any_label[rows.starts]
    return replace(
        rows,
        starts=rows.starts[kept],
        ends=rows.ends[kept],
        next_of=np.where(labelled, rows.next_of, -1),
        horizon_ends=np.minimum(rows.horizon_ends, nothing),
        period_ends=np.minimum(rows.period_ends, nothing),
    )
