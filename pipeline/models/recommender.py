"""
What every recommender can do: fit on histories, score the whole catalogue. And how a list is cut from scores.

A score matrix is float32 [users, num_items], aligned with the histories and the catalogue that were given: higher is
better, -inf at the padding item (0) and the unknown item (1), finite everywhere else. Scores of two models, or of two
users, need not be on one scale; only the order within a row has a meaning.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol, runtime_checkable

import numpy as np

from pipeline.features.histories import Catalogue, Histories

FIRST_ITEM = 2
"""Index of the first real item; 0 is padding and 1 the unknown item."""


@runtime_checkable
class Recommender(Protocol):
    """The verbs that every model shares, so that one evaluation and one test suite serve all of them."""

    name: str

    def fit(self, histories: Histories, catalogue: Catalogue, as_of: datetime) -> Recommender:
        """Learn from events before `as_of` and return itself. The caller has cut the histories there."""
        ...

    def scores(self, histories: Histories, as_of: datetime) -> np.ndarray:
        """Score every item for every user of `histories`, who need not have been seen in `fit`.

        Returns:
            [users, num_items] float32. -inf at padding and unknown, finite elsewhere.
        """
        ...


def mask_special_items(scores: np.ndarray) -> np.ndarray:
    """Set padding and unknown to -inf, in place; [users, num_items] float32 comes back for convenience."""
    scores[:, :FIRST_ITEM] = -np.inf
    return scores


def seen_pairs(histories: Histories) -> tuple[np.ndarray, np.ndarray]:
    """Rows and items of all events, as two int64 arrays [events]; a repeated event is repeated."""
    rows = np.repeat(np.arange(histories.num_users, dtype=np.int64), np.diff(histories.offsets))
    return rows, histories.items.astype(np.int64)


def top_k(scores: np.ndarray, k: int, seen: Histories | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The k best items of every user, best first; equal scores are ordered by item index, so a list never flickers.

    Args:
        scores: [users, num_items], -inf where an item may not be recommended. Not changed.
        k: length of the lists; may exceed the number of items.
        seen: histories of the same users in the same order, whose items are left out. None: nothing is left out.

    Returns:
        items int64 [users, k] and their scores float32 [users, k]; -1 and -inf where fewer than k items remain.
    """
    users, num_items = scores.shape
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}.")
    if np.isnan(scores).any():
        raise ValueError("Scores contain NaN, which has no place in an order. Look for a model that diverged.")
    if seen is not None:
        if seen.num_users != users:
            raise ValueError(f"Scores are of {users} users but seen items of {seen.num_users}; give the same users.")
        rows, items = seen_pairs(seen)
        scores = scores.copy()
        scores[rows, items] = -np.inf
    depth = min(k, num_items)
    best = np.empty((users, depth), dtype=np.int64)
    if depth < num_items:
        # argpartition picks arbitrarily among equals at the border; users for whom that could matter are sorted whole.
        candidates = np.argpartition(scores, num_items - depth, axis=1)[:, num_items - depth :]
        border = np.take_along_axis(scores, candidates, axis=1).min(axis=1)
        ambiguous = (scores >= border[:, None]).sum(axis=1) > depth
        candidates.sort(axis=1)
        order = np.argsort(-np.take_along_axis(scores, candidates, axis=1), axis=1, kind="stable")
        best[:] = np.take_along_axis(candidates, order, axis=1)
    else:
        ambiguous = np.ones(users, dtype=bool)
    if ambiguous.any():
        best[ambiguous] = np.argsort(-scores[ambiguous], axis=1, kind="stable")[:, :depth]
    items_out = np.full((users, k), -1, dtype=np.int64)
    scores_out = np.full((users, k), -np.inf, dtype=np.float32)
    best_scores = np.take_along_axis(scores, best, axis=1)
    items_out[:, :depth] = np.where(np.isneginf(best_scores), -1, best)
    scores_out[:, :depth] = best_scores
    return items_out, scores_out
