"""
What every recommender can do: fit on histories, score the whole catalogue. And how a list is cut from scores.

A score matrix is float32 [users, num_items], aligned with the histories and the catalogue that were given: higher is
better, -inf at the padding item (0) and the unknown item (1), finite everywhere else. Scores of two models, or of two
users, need not be on one scale; only the order within a row has a meaning.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from pipeline.features.histories import FIRST_ITEM, Catalogue, Histories

USERS_AT_ONCE = 64
"""Rows of a score matrix that are worked on together, so that they stay in the processor's cache."""


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


def new_events(histories: Histories, seen: Histories | None) -> np.ndarray:
    """Which events may be asked for: of a catalogue item, and not of an item in `seen` (same users, same order).

    Returns:
        [events] bool.
    """
    allowed = histories.items >= FIRST_ITEM
    if seen is not None:
        width = int(max(histories.items.max(initial=0), seen.items.max(initial=0))) + 1
        allowed &= ~np.isin(histories.owners * width + histories.items, seen.owners * width + seen.items)
    return allowed


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
    if seen is not None:
        if seen.num_users != users:
            raise ValueError(f"Scores are of {users} users but seen items of {seen.num_users}; give the same users.")
        scores = scores.copy()
        scores[seen.owners, seen.items] = -np.inf
    depth = min(k, num_items)
    best = np.empty((users, depth), dtype=np.int64)
    for first in range(0, users, USERS_AT_ONCE):
        best[first : first + USERS_AT_ONCE] = _best(scores[first : first + USERS_AT_ONCE], depth)
    items_out = np.full((users, k), -1, dtype=np.int64)
    scores_out = np.full((users, k), -np.inf, dtype=np.float32)
    best_scores = np.take_along_axis(scores, best, axis=1)
    items_out[:, :depth] = np.where(np.isneginf(best_scores), -1, best)
    scores_out[:, :depth] = best_scores
    return items_out, scores_out


def _best(scores: np.ndarray, depth: int) -> np.ndarray:
    """int64 [users, depth] items of [users, num_items] scores."""
    values, found = torch.topk(torch.from_numpy(scores), depth, dim=1)  # NaN counts as the largest
    border, candidates = values[:, -1].numpy(), found.numpy()
    if len(scores) and torch.isnan(values[:, 0]).any():
        raise ValueError("Scores contain NaN, which has no place in an order. Look for a model that diverged.")
    candidates.sort(axis=1)
    order = np.argsort(-np.take_along_axis(scores, candidates, axis=1), axis=1, kind="stable")
    best = np.take_along_axis(candidates, order, axis=1)
    # Among equals at the border topk picks as it likes; users for whom that could matter are sorted whole.
    ambiguous = (scores >= border[:, None]).sum(axis=1) > depth
    if ambiguous.any():
        best[ambiguous] = np.argsort(-scores[ambiguous], axis=1, kind="stable")[:, :depth]
    return best


class InCatalogue:
    """A fitted model, asked in the terms of another catalogue: how a champion is compared with its successor.

    Histories are translated into the model's own catalogue; its scores are translated back. An item that the model
    does not know scores just below the least of the items that it knows.
    """

    def __init__(self, model: Recommender, own: Catalogue, other: Catalogue, name: str | None = None) -> None:
        self.model, self.name = model, name or model.name
        self.index = own.index_of(other.item_ids)  # [other.num_items] of the model's catalogue
        self.index[:FIRST_ITEM] = np.arange(FIRST_ITEM)

    def fit(self, histories: Histories, catalogue: Catalogue, as_of: datetime) -> InCatalogue:
        """The model was fitted before; nothing happens."""
        return self

    def scores(self, histories: Histories, as_of: datetime) -> np.ndarray:
        return self.back(self.model.scores(replace(histories, items=self.index[histories.items]), as_of))

    def back(self, own: np.ndarray) -> np.ndarray:
        """Scores of the model's own items, [users, own items], as those of the other catalogue's."""
        found = own[:, self.index]
        real = found[:, FIRST_ITEM:]
        finite = np.isfinite(real)
        least = np.where(finite, real, np.inf).min(axis=1, initial=np.inf)
        least = np.where(np.isfinite(least), least - 1.0, 0.0).astype(found.dtype)
        found[:, FIRST_ITEM:] = np.where(np.isneginf(real), least[:, None], real)
        return mask_special_items(found)
