"""
Histories cut into examples: what a user had done at some moment, and what they did next.

An example's context ends at a cut; its targets are the user's events after the cut, up to `horizon_days` and
`max_targets` of them. Half of the target mass lies on the next new item and half on all of them evenly: the two
questions of the evaluation. Popularity is that of the example's own time, so nothing of an example looks forward.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from pipeline.features.histories import FIRST_ITEM, Histories, microseconds_of
from pipeline.models.recommender import new_events

DAY = 86_400_000_000
TREND_DAYS = (7, 30, 36_500)


@dataclass(frozen=True)
class Examples:
    """Contexts and targets, both ragged; example `i` owns `items[offsets[i]:offsets[i + 1]]`, likewise its targets."""

    context: Histories
    """one entry an example; a user may have several"""
    target_offsets: np.ndarray = field(repr=False)
    targets: np.ndarray = field(repr=False)
    """[targets] int64 items"""
    shares: np.ndarray = field(repr=False)
    """[targets] float32; of one example they sum to 1"""
    moments: np.ndarray = field(repr=False)
    """[examples] int64 microseconds: the time of the cut"""

    @property
    def num_examples(self) -> int:
        return self.context.num_users

    @property
    def target_owners(self) -> np.ndarray:
        """[targets] int64: whose each target is."""
        return np.repeat(np.arange(self.num_examples), np.diff(self.target_offsets))

    def take(self, positions: np.ndarray) -> Examples:
        """Some of the examples, in the order given."""
        lengths = np.diff(self.target_offsets)[positions]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        flat = np.arange(offsets[-1]) + np.repeat(self.target_offsets[positions] - offsets[:-1], lengths)
        return Examples(
            self.context.take(positions), offsets, self.targets[flat], self.shares[flat], self.moments[positions]
        )


def evenly(num: int, most: int) -> np.ndarray:
    """At most so many of the positions 0 to `num` - 1, evenly apart, int64."""
    return np.arange(num) if num <= most else np.linspace(0, num - 1, most).astype(np.int64)


def examples_between(context: Histories, future: Histories, moment: datetime | None, include_seen: bool) -> Examples:
    """One example for each user with a context and a target: the evaluation's question.

    Args:
        moment: when everybody is asked; None: each user at the newest event of the context, as under leave-one-out.
    """
    if moment is None:
        moments = np.append(context.times, 0)[context.offsets[1:] - 1]      # of an empty context no example is made
    else:
        moments = np.full(context.num_users, microseconds_of(moment), dtype=np.int64)
    return _with_targets(context, future, moments, include_seen)


def examples_at_random(
    histories: Histories,
    rng: np.random.Generator,
    per_user: int,
    horizon_days: float,
    max_targets: int,
    context_length: int,
    include_seen: bool,
    since: int | None = None,
) -> Examples:
    """`per_user` random cuts of every user with at least two events; equal moments are never torn apart.

    Args:
        since: microseconds since 1970; users are cut from there on only.
    """
    starts = histories.offsets[:-1]
    too_early = histories.owners[histories.times < since] if since is not None else histories.owners[:0]
    firsts = np.maximum(np.bincount(too_early, minlength=histories.num_users), 1)
    choices = histories.lengths - firsts
    users = np.repeat(np.flatnonzero(choices > 0), per_user)
    cuts = (starts + firsts)[users] + (rng.random(len(users)) * choices[users]).astype(np.int64)
    moments = histories.times[cuts]
    # Events of the very moment of the cut belong to what comes next: move the cut to the first of them.
    first = _first_of_moment(histories)[cuts]
    ends = np.minimum(histories.offsets[users + 1], first + max_targets)
    context = _slices(histories, users, np.maximum(starts[users], first - context_length), first)
    future = _slices(histories, users, first, ends)
    return _with_targets(context, future, moments, include_seen, moments + int(horizon_days * DAY))


class Trend:
    """log(1 + events) of every item over the last 7 days, 30 days and ever, at any of a few grid moments.

    A moment is answered by the last grid moment that is not after it, so it never sees its own future. The grid is
    made of quantiles of the events' times: bounded memory, and dense where much happens.
    """

    def __init__(self, histories: Histories, num_items: int, grid: int = 48) -> None:
        times = np.sort(histories.times)
        self.moments = np.unique(times[np.linspace(0, len(times) - 1, grid).astype(np.int64)]) if len(times) else times
        self.values = np.stack(
            [trend_at(histories, num_items, moment) for moment in self.moments]
            or [np.zeros((len(TREND_DAYS), num_items), dtype=np.float32)]
        )
        """float32 [grid, 3, num_items]"""

    def rows(self, moments: np.ndarray) -> np.ndarray:
        """[examples] int64: the row of `values` that holds at each moment."""
        return np.maximum(np.searchsorted(self.moments, moments, side="right") - 1, 0)


def trend_at(histories: Histories, num_items: int, moment: int | datetime) -> np.ndarray:
    """float32 [3, num_items]: log(1 + events before `moment`) of the last 7 days, 30 days and ever; special items 0."""
    end = microseconds_of(moment) if isinstance(moment, datetime) else int(moment)
    found = np.zeros((len(TREND_DAYS), num_items), dtype=np.float32)
    for row, days in enumerate(TREND_DAYS):
        inside = (histories.times < end) & (histories.times >= end - timedelta(days=days) // timedelta(microseconds=1))
        found[row] = np.log1p(np.bincount(histories.items[inside], minlength=num_items))
    found[:, :FIRST_ITEM] = 0.0
    return found


def _first_of_moment(histories: Histories) -> np.ndarray:
    """[events]: for each event, the position of the first event of the same user at the same time."""
    begins = np.ones(histories.num_events, dtype=bool)
    begins[1:] = (np.diff(histories.times) != 0) | (np.diff(histories.owners) != 0)
    return np.maximum.accumulate(np.where(begins, np.arange(histories.num_events), 0))


def _slices(histories: Histories, users: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> Histories:
    """One entry for each (user, begin, end)."""
    lengths = ends - begins
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    flat = np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], lengths)
    return Histories(
        histories.user_ids[users],
        offsets,
        histories.items[flat],
        histories.types[flat],
        histories.times[flat],
        histories.event_types,
    )


def _with_targets(
    context: Histories, future: Histories, moments: np.ndarray, include_seen: bool, until: np.ndarray | None = None
) -> Examples:
    """Join contexts with their distinct new items; examples without a context or without a target are dropped."""
    allowed = new_events(future, None if include_seen else context)
    if until is not None:
        allowed &= future.times < until[future.owners]
    owners, items = future.owners[allowed], future.items[allowed].astype(np.int64)
    width = int(items.max(initial=0)) + 1
    _, first = np.unique(owners * width + items, return_index=True)
    first = np.sort(first)  # distinct, in the order of time
    owners, items = owners[first], items[first]
    lengths = np.bincount(owners, minlength=context.num_users)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    shares = 0.5 / lengths[owners]
    shares[offsets[:-1][lengths > 0]] += 0.5
    every = Examples(context, offsets, items, shares.astype(np.float32), moments)
    real = np.bincount(context.owners[context.items >= FIRST_ITEM], minlength=context.num_users)
    return every.take(np.flatnonzero((lengths > 0) & (real > 0)))
