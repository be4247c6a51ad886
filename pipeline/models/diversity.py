"""
Lists that do not say the same thing twice: maximal marginal relevance (Carbonell and Goldstein 1998).

    next = argmax over the items left of (1 - diversity) * relevance - diversity * similarity to the nearest one chosen

Relevance is an item's score as a share of the way from the last to the first item of a user's pool, the pool being the
best items by score, three times as many as the list has; similarity is the cosine of the items' vectors, 0 where one
has none. Both are between 0 and 1, so one `diversity` means much the same for every model and user.
"""

from __future__ import annotations

import numpy as np
import torch

from pipeline.features.histories import Histories
from pipeline.models.recommender import top_k

POOL = 3
USERS_AT_ONCE = 128


def diverse_top_k(
    scores: np.ndarray, k: int, seen: Histories | None, item_vectors: np.ndarray, diversity: float
) -> tuple[np.ndarray, np.ndarray]:
    """The k items of every user that are both good and unlike one another; with `diversity` 0 those of `top_k`.

    Args:
        scores: [users, num_items], -inf where an item may not be recommended. Not changed.
        seen: histories of the same users in the same order, whose items are left out. None: nothing is left out.
        item_vectors: [num_items, dim]; a row of zeros is like nothing.
        diversity: from 0 to 1.

    Returns:
        items int64 [users, k] in the order of choice, and the scores that they had, float32 [users, k], which then
        need not fall; -1 and -inf where fewer than k items remain.

    Raises:
        ValueError: `diversity` is outside 0 to 1.
    """
    if not 0 <= diversity <= 1:
        raise ValueError(f"The diversity is {diversity}. Expected a number from 0 to 1.")
    if not diversity:
        return top_k(scores, k, seen)
    pool, worth = top_k(scores, POOL * k, seen)
    items, values = np.empty((len(pool), k), dtype=np.int64), np.empty((len(pool), k), dtype=np.float32)
    length = np.linalg.norm(item_vectors, axis=1, keepdims=True)
    units = torch.from_numpy((item_vectors / np.maximum(length, 1e-9)).astype(np.float32))
    for first in range(0, len(pool), USERS_AT_ONCE):
        part = slice(first, first + USERS_AT_ONCE)
        chosen = _marginal(torch.from_numpy(pool[part]), torch.from_numpy(worth[part]), units, k, diversity).numpy()
        items[part] = np.take_along_axis(pool[part], chosen, axis=1)
        values[part] = np.take_along_axis(worth[part], chosen, axis=1)
    return items, values


def _marginal(
    pool: torch.Tensor, worth: torch.Tensor, units: torch.Tensor, k: int, diversity: float
) -> torch.Tensor:
    """int64 [users, k] places in the pool [users, pooled], whose items are worth so much, -inf where there is none."""
    there = torch.isfinite(worth)
    top, bottom = worth[:, :1], torch.where(there, worth, torch.inf).amin(dim=1, keepdim=True)
    relevance = torch.where(there, (worth - bottom) / (top - bottom).clamp(min=1e-9), 0.0)
    vectors = units[pool.clamp(min=0)]                                                     # [users, pooled, dim]
    nearest = torch.zeros_like(relevance)
    left = torch.where(there, 0.0, -1e6)                                                   # empty places come last
    chosen = torch.empty((len(pool), k), dtype=torch.int64)
    for place in range(k):
        gain = (1 - diversity) * relevance - diversity * nearest + left
        best = gain.argmax(dim=1, keepdim=True)                                            # [users, 1]
        chosen[:, place] = best[:, 0]
        left.scatter_(1, best, -1e9)
        own = vectors.gather(1, best[:, :, None].expand(-1, -1, vectors.shape[2]))         # [users, 1, dim]
        nearest = torch.maximum(nearest, (vectors @ own.transpose(1, 2))[:, :, 0])
    return chosen
