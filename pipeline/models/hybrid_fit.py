"""
How the hybrid's weights are fitted: softmax regression over candidates of users of the validation window.

A user's candidates are the best items of every part, what the user did next, and a random rest that stands for all
other items in the sum. So the fit reads some hundreds of items of many users instead of all items of a few.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.features.histories import FIRST_ITEM
from pipeline.models.recommender import top_k
from pipeline.models.user_examples import Examples

BEST = 100
"""Candidates of each part, a user."""
REST = 200
"""Random items of a user that stand for the others."""
USERS_AT_ONCE = 128
SHRINKAGE = 1e-3
SHIFTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
DEPTHS = (10, 50)


@dataclass(frozen=True)
class Candidates:
    """Some items of every user, as the parts score them; padded on the right."""

    scores: Tensor
    """float32 [users, width, parts]"""
    unseen: Tensor
    """float32 [users, width]: 1 where nobody has had the item yet"""
    log_stands_for: Tensor
    """float32 [users, width]: log of how many items one stands for; -inf for padding"""
    shares: Tensor
    """float32 [users, width]: of the targets, 1 a user; 0 elsewhere"""


def draw_candidates(
    examples: Examples, score: Callable[[Examples], np.ndarray], unseen: np.ndarray, include_seen: bool, seed: int = 7
) -> Candidates:
    """Candidates of every example.

    Args:
        score: scores of all parts, float32 [parts, users, num_items], -inf at the first two items.
        unseen: [num_items] bool.
        include_seen: whether items of a user's context may be recommended again.
    """
    rng = np.random.default_rng(seed)
    rows: list[tuple[np.ndarray, ...]] = []
    for first in range(0, examples.num_examples, USERS_AT_ONCE):
        part = examples.take(np.arange(first, min(first + USERS_AT_ONCE, examples.num_examples)))
        scores = score(part)
        if not include_seen:
            scores[:, part.context.owners, part.context.items] = -np.inf
        depth = min(BEST, scores.shape[2] - FIRST_ITEM)
        best = np.argpartition(-scores, depth - 1, axis=2)[:, :, :depth]                     # [parts, users, depth]
        for user in range(part.num_examples):
            own = slice(part.target_offsets[user], part.target_offsets[user + 1])
            targets = part.targets[own]
            open_items = np.isfinite(scores[0, user])
            named = np.unique(np.concatenate([best[:, user].ravel(), targets]))
            named = named[open_items[named]]
            open_items[named] = False
            others = np.flatnonzero(open_items)
            rest = rng.choice(others, min(REST, len(others)), replace=False)
            items = np.concatenate([named, rest])
            log_stands_for = np.zeros(len(items), dtype=np.float32)
            log_stands_for[len(named) :] = np.log(max(len(others), 1) / max(len(rest), 1))
            shares = np.zeros(len(items), dtype=np.float32)
            shares[np.searchsorted(named, targets)] = part.shares[own]
            rows.append((scores[:, user, items].T, unseen[items], log_stands_for, shares))
    width = max(len(row[1]) for row in rows)

    def padded(place: int, fill: float) -> Tensor:
        shape = (len(rows), width, *rows[0][place].shape[1:])
        found = np.full(shape, fill, dtype=np.float32)
        for user, row in enumerate(rows):
            found[user, : len(row[place])] = row[place]
        return torch.from_numpy(found)

    return Candidates(padded(0, 0.0), padded(1, 0.0), padded(2, -np.inf), padded(3, 0.0))


def fit_weights(candidates: Candidates) -> tuple[np.ndarray, np.ndarray]:
    """Weights that make what users did next most likely.

    Returns:
        float [parts], at least 0: the weight of each part; and float [1 + parts]: what is added for an item that
        nobody has had, a constant and further weights of the parts.
    """
    parts = candidates.scores.shape[2]
    raw = torch.zeros(parts, requires_grad=True)                                             # weights = softplus(raw)
    fresh = torch.zeros(1 + parts, requires_grad=True)
    with_fresh = bool(candidates.unseen.any())
    optimizer = torch.optim.LBFGS([raw, fresh], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        weights = torch.nn.functional.softplus(raw)
        mixed = candidates.scores @ weights + candidates.log_stands_for
        if with_fresh:
            mixed = mixed + candidates.unseen * (fresh[0] + candidates.scores @ fresh[1:])
        own = torch.where(candidates.shares > 0, mixed - candidates.log_stands_for, 0.0)
        value = (mixed.logsumexp(dim=1) - (candidates.shares * own).sum(dim=1)).mean()
        value = value + SHRINKAGE * (weights.square().sum() + fresh.square().sum())
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        return torch.nn.functional.softplus(raw).numpy(), fresh.numpy().copy()


def choose_shift(
    examples: Examples, score: Callable[[Examples], np.ndarray], unseen: np.ndarray, include_seen: bool
) -> float:
    """How much more is added to items that nobody has had: the most that cannot be told from the best.

    What makes the targets most likely leaves such an item, one of very many, far below the lists' end; likelihood does
    not say what a place in a list is worth. The best shift has the largest recall, of all items and summed over DEPTHS.
    Another one may be lower at either depth by no more than a standard error of the users' differences.

    Args:
        score: float32 [users, num_items], the hybrid's.
        unseen: [num_items] bool.
    """
    fresh = np.flatnonzero(unseen)
    fresh = fresh[fresh >= FIRST_ITEM]
    if not len(fresh):
        return 0.0
    found = np.zeros((len(SHIFTS), len(DEPTHS), examples.num_examples))
    for first in range(0, examples.num_examples, USERS_AT_ONCE):
        part = examples.take(np.arange(first, min(first + USERS_AT_ONCE, examples.num_examples)))
        scores = score(part)
        if not include_seen:
            scores[part.context.owners, part.context.items] = -np.inf
        plain, width = scores[:, fresh].copy(), scores.shape[1]
        wanted, counts = part.target_owners * width + part.targets, np.diff(part.target_offsets)
        for row, shift in enumerate(SHIFTS):
            scores[:, fresh] = plain + np.float32(shift)
            lists, _ = top_k(scores, max(DEPTHS))
            hits = np.isin(np.arange(part.num_examples)[:, None] * width + lists, wanted) & (lists >= 0)
            for column, depth in enumerate(DEPTHS):
                found[row, column, first : first + len(counts)] = hits[:, :depth].sum(axis=1) / counts
    change = found - found[np.argmax(found.mean(axis=2).sum(axis=1))]
    error = change.std(axis=2) / np.sqrt(examples.num_examples)
    return SHIFTS[int(np.flatnonzero((change.mean(axis=2) >= -error - 1e-9).all(axis=1))[-1])]
