"""From scores to probabilities: Platt scaling (Platt 1999, in the form of Lin, Lin and Weng 2007)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.models.recommender import top_k
from pipeline.models.user_examples import Examples

DEPTH = 50
"""So much of each user's list is read."""
MOST_USERS = 500
USERS_AT_ONCE = 128


@dataclass(frozen=True)
class PlattScale:
    """The probability of a hit at a score: the logistic function of `slope * score + offset`, which never falls."""

    slope: float
    offset: float

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """float32 of the same shape, from 0 to 1; 0 at a score of -inf."""
        found = self.slope * np.asarray(scores, dtype=np.float64) + self.offset
        return (0.5 * (1.0 + np.tanh(0.5 * found))).astype(np.float32)


def fit_platt(scores: np.ndarray, hits: np.ndarray) -> PlattScale | None:
    """The scale that makes the hits most likely; None where all or none are hits, so that nothing can be told.

    Args:
        scores: [n] finite.
        hits: [n] bool.

    The slope is at least 0: a list is not turned round. Targets are a little off 0 and 1, as in Platt's paper, so that
    few hits that scores happen to separate give no infinite slope.
    """
    positive, negative = int(hits.sum()), int((~hits).sum())
    if not positive or not negative:
        return None
    centre, spread = float(scores.mean()), max(float(scores.std()), 1e-9)
    standard = torch.from_numpy((scores.astype(np.float64) - centre) / spread)
    targets = torch.from_numpy(np.where(hits, (positive + 1) / (positive + 2), 1 / (negative + 2)))
    raw = torch.tensor([0.0, float(np.log(positive / negative))], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([raw], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = raw[0].clamp(min=0.0) * standard + raw[1]
        value = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
        value.backward()
        return value

    optimizer.step(loss)
    slope, offset = max(float(raw[0].detach()), 0.0) / spread, float(raw[1].detach())
    return PlattScale(slope, offset - slope * centre)


def calibrate_lists(
    examples: Examples, score: Callable[[Examples], np.ndarray], include_seen: bool
) -> PlattScale | None:
    """How probable it is that a user takes an item of their list, by its score, within a window like the examples'.

    Args:
        examples: contexts, and as targets what these users took in a window that no weight was learned from.
        score: float32 [users, num_items], those of what makes the lists.
    """
    examples = examples.take(np.arange(0, examples.num_examples, max(1, -(-examples.num_examples // MOST_USERS))))
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for first in range(0, examples.num_examples, USERS_AT_ONCE):
        part = examples.take(np.arange(first, min(first + USERS_AT_ONCE, examples.num_examples)))
        scores = score(part)
        lists, worth = top_k(scores, DEPTH, None if include_seen else part.context)
        owners, width = np.arange(part.num_examples), scores.shape[1]
        wanted = part.target_owners * width + part.targets
        shown = lists >= 0
        found.append((worth[shown], np.isin(owners[:, None] * width + lists, wanted)[shown]))
    return fit_platt(*(np.concatenate(column) for column in zip(*found, strict=True))) if found else None
