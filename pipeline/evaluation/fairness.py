"""
Who is served worst, and how much worse: the groups of users beside each other.

A gap is the difference between the best and the worst group's mean. Which groups these are is decided on all users;
the interval of their difference comes from resamples of the users, all groups from the same ones (Efron 1979).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.evaluation.bootstrap import Interval, interval_of, resampled_means

MIN_USERS = 20
"""A group with fewer users is not judged."""


@dataclass(frozen=True)
class GroupGap:
    """One metric of one model across groups; names are empty where fewer than two groups can be judged."""

    worst: str
    best: str
    worst_value: Interval
    gap: Interval
    """the best group's mean - the worst one's, at least 0; `users` counts those of both groups"""


def group_gap(
    values: np.ndarray,
    groups: Mapping[str, np.ndarray],
    *,
    samples: int,
    seed: int,
    confidence: float = 0.95,
    min_users: int = MIN_USERS,
) -> GroupGap:
    """The worst group and the gap.

    Args:
        values: [users]; NaN for a user without a value.
        groups: name → [users] bool; of equal means the first one named counts.
    """
    members = {name: np.where(group, values, np.nan) for name, group in groups.items()}
    members = {name: own for name, own in members.items() if np.isfinite(own).sum() >= min_users}
    if len(members) < 2:
        nothing = Interval(float("nan"), float("nan"), float("nan"), 0)
        return GroupGap("", "", nothing, nothing)
    names = list(members)
    found = [float(np.nanmean(own)) for own in members.values()]
    worst, best = int(np.argmin(found)), int(np.argmax(found))
    pair = np.stack([members[names[worst]], members[names[best]]], axis=1)
    means = resampled_means(pair, samples, seed)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.nanquantile(means[:, 1] - means[:, 0], tails)
    users = int(np.isfinite(pair).any(axis=1).sum())
    return GroupGap(
        names[worst],
        names[best],
        interval_of(pair[:, 0], means[:, 0], confidence),
        Interval(found[best] - found[worst], float(low), float(high), users),
    )
