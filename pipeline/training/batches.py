"""
Makes tensors of training rows: rows of like length together, as many as a budget of tokens allows.

The same seed and epoch give the same batches in the same order, whatever was asked for before; a run that goes on
at epoch 5 sees what it would have seen without the interruption.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pipeline.features.training_rows import TrainingRows


def batches_of_rows(lengths: np.ndarray, tokens: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Positions of rows, batch by batch, in random order.

    Rows are shuffled, ordered by length and cut so that rows times the longest length stays within `tokens`
    (a single longer row still gets a batch of its own).
    """
    shuffled = generator.permutation(len(lengths))
    ordered = shuffled[np.argsort(lengths[shuffled], kind="stable")]
    batches, first = [], 0
    while first < len(ordered):
        ahead = lengths[ordered[first : first + tokens]]
        fits = np.arange(1, len(ahead) + 1) * ahead <= tokens
        size = max(int(fits.sum()), 1)
        batches.append(ordered[first : first + size])
        first += size
    return [batches[index] for index in generator.permutation(len(batches))]


@dataclass(frozen=True)
class RowBatches:
    """All training rows, and how they become tensors.

    Every batch holds, [batch, length] int64 unless said otherwise and 0 where there is nothing:
    `items, types, times` the events; `next_types` of the event after each, `next_items` of the next wanted one;
    `future_items` [batch, length, future_samples] drawn from the wanted ones of the horizon; `category_mix` float32
    [batch, length, categories]; `trend_rows` steps of `trend` [2, num_items, steps], which is the same tensor in every
    batch.
    """

    rows: TrainingRows
    category_matrix: np.ndarray
    """float32 [num_items, categories] of the category-mix head"""
    tokens: int
    future_samples: int
    seed: int
    device: torch.device

    def epoch(self, number: int, most: int | None = None) -> Iterator[dict[str, Tensor]]:
        """The batches of one epoch; with `most`, only the first so many of the shuffled ones."""
        generator = np.random.default_rng([self.seed, number])
        trend = self._trend
        for members in batches_of_rows(self.rows.lengths, self.tokens, generator)[:most]:
            batch = self._tensors(members, generator)
            yield {name: torch.from_numpy(value).to(self.device) for name, value in batch.items()} | {"trend": trend}

    @cached_property
    def _trend(self) -> Tensor:
        """An item's numbers lie together: a batch reads some items at all steps."""
        return torch.from_numpy(np.ascontiguousarray(self.rows.trend.log_counts.transpose(1, 2, 0))).to(self.device)

    def _tensors(self, members: np.ndarray, generator: np.random.Generator) -> dict[str, np.ndarray]:
        rows, histories = self.rows, self.rows.histories
        starts, lengths = rows.starts[members], rows.lengths[members]
        length = int(lengths.max())
        steps = np.arange(length)
        real = steps < lengths[:, None]                                            # [batch, length]
        at = starts[:, None] + np.minimum(steps, lengths[:, None] - 1)             # padding repeats the last event
        following = rows.next_of[at]
        has_next = real & (following >= 0)
        begins, ends = (
            np.searchsorted(rows.wanted[:-1], edges[at]) for edges in (rows.future_starts, rows.horizon_ends)
        )
        futures = np.maximum(ends - begins, 0)                                     # wanted events within the horizon
        drawn = (generator.random((*at.shape, self.future_samples)) * futures[..., None]).astype(np.int64)
        chosen = rows.wanted[begins[..., None] + drawn]
        after = np.minimum(at + 1, histories.num_events - 1)
        return {
            "items": np.where(real, histories.items[at], 0).astype(np.int64),
            "types": np.where(real, histories.types[at], 0).astype(np.int64),
            "times": histories.times[at],
            "next_items": np.where(has_next, histories.items[following], 0).astype(np.int64),
            "next_types": np.where(has_next, histories.types[after], 0).astype(np.int64),
            "future_items": np.where((real & (futures > 0))[..., None], histories.items[chosen], 0).astype(np.int64),
            "category_mix": self._category_mix(at, real),
            "trend_rows": rows.trend_rows[at],
        }

    def _category_mix(self, at: np.ndarray, real: np.ndarray) -> np.ndarray:
        """float32 [batch, length, categories]: shares of each category among the events of the next period."""
        rows = self.rows
        mixes = np.zeros((*at.shape, self.category_matrix.shape[1]), dtype=np.float32)
        if mixes.size == 0:
            return mixes
        begins, ends = rows.future_starts[at], np.maximum(rows.period_ends[at], rows.future_starts[at])
        firsts, lasts = begins[:, 0], ends.max(axis=1)                             # what each row of the batch reads
        sizes = lasts - firsts
        shifts = np.cumsum(sizes) - sizes - firsts                                 # event → place, row by row
        events = np.arange(sizes.sum()) - np.repeat(shifts, sizes)
        weights = self.category_matrix[rows.histories.items[events]]               # [events read, C]
        sums = np.zeros((len(weights) + 1, weights.shape[1]))
        np.cumsum(weights, axis=0, dtype=np.float64, out=sums[1:])
        begins, ends = begins + shifts[:, None], ends + shifts[:, None]
        some = real & (ends > begins)
        ahead = sums[ends[some]] - sums[begins[some]]                              # [positions with a period, C]
        totals = ahead.sum(axis=1, keepdims=True)
        mixes[some] = np.divide(ahead, totals, out=np.zeros_like(ahead), where=totals > 1e-9)
        return mixes
