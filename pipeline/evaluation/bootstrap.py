"""
How sure a mean is: the percentile bootstrap over users (Efron 1979), paired, seeded, and done for many columns at once.

Every column is resampled with the same users in the same resample, so a difference of two columns is a paired one:
what the two have in common (an easy user, a hard user) cancels out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CELLS_AT_ONCE = 4_000_000
"""Bounds memory: resamples are drawn in chunks of about this many drawn users."""


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval; NaN when no user has a value."""

    mean: float
    low: float
    high: float
    users: int


def resampled_means(values: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Means of `samples` resamples of the users, of all columns together.

    Args:
        values: [users, columns]; NaN where a user has no value and is left out of that column's mean.

    Returns:
        [samples, columns] float64; NaN where a resample drew no user with a value.
    """
    users, columns = values.shape
    known = np.isfinite(values)
    filled, known = np.where(known, values, 0.0).astype(np.float64), known.astype(np.float64)
    rng = np.random.default_rng(seed)
    means = np.full((samples, columns), np.nan)
    chunk = max(1, CELLS_AT_ONCE // max(users, 1))
    for first in range(0, samples if users else 0, chunk):
        count = min(chunk, samples - first)
        drawn = rng.integers(users, size=(count, users)) + np.arange(count)[:, None] * users
        weights = np.bincount(drawn.ravel(), minlength=count * users).reshape(count, users).astype(np.float64)
        total = weights @ known
        means[first : first + count] = np.divide(
            weights @ filled, total, out=np.full((count, columns), np.nan), where=total > 0
        )
    return means


def interval_of(values: np.ndarray, means: np.ndarray, confidence: float) -> Interval:
    """The mean of one column [users] and the percentile interval of its resampled means [samples]."""
    known = np.isfinite(values)
    if not known.any():
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    low, high = np.nanquantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(values[known].mean()), float(low), float(high), int(known.sum()))


def paired_difference(
    values: np.ndarray, reference: np.ndarray, samples: int, seed: int, confidence: float
) -> tuple[Interval, Interval]:
    """The difference `values - reference` of the users who have both, absolute and as a share of the reference mean.

    Args:
        values, reference: [users] of the same users in the same order.

    Returns:
        (absolute, relative). The relative one is infinite where the reference is 0 and the difference is not.
    """
    both = np.isfinite(values) & np.isfinite(reference)
    pair = np.stack([values[both], reference[both]], axis=1).astype(np.float64)
    if not both.any():
        nothing = Interval(float("nan"), float("nan"), float("nan"), 0)
        return nothing, nothing
    means = resampled_means(pair, samples, seed)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    absolute, relative = means[:, 0] - means[:, 1], _share(means[:, 0] - means[:, 1], means[:, 1])
    centre = pair.mean(axis=0)
    users = int(both.sum())
    # `lower` keeps infinities (a reference without a single hit) instead of interpolating them to NaN.
    bounds = [np.quantile(each, tails, method="lower") for each in (absolute, relative)]
    return (
        Interval(float(centre[0] - centre[1]), float(bounds[0][0]), float(bounds[0][1]), users),
        Interval(
            float(_share(centre[0] - centre[1], centre[1])), float(bounds[1][0]), float(bounds[1][1]), users
        ),
    )


def _share(difference: np.ndarray, reference: np.ndarray) -> np.ndarray:
    difference, reference = np.asarray(difference, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    infinite = np.where(difference == 0, 0.0, np.copysign(np.inf, difference))
    return np.divide(difference, reference, out=infinite, where=reference != 0)
