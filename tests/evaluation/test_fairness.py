"""Groups beside each other: the worst one, its distance to the best, and how sure both are."""

import numpy as np
import pytest

from pipeline.evaluation.fairness import group_gap

GROUPS = {
    "few": np.arange(100) < 5, "left": np.arange(100) < 40, "middle": (np.arange(100) >= 40) & (np.arange(100) < 70),
    "right": np.arange(100) >= 70,
}


def values(left: float, middle: float, right: float, noise: float = 0.0) -> np.ndarray:
    found = np.concatenate([np.full(40, left), np.full(30, middle), np.full(30, right)])
    return found + np.random.default_rng(3).normal(0, noise, 100)


def test_the_gap_is_between_the_best_and_the_worst_group_that_is_large_enough():
    found = group_gap(values(0.2, 0.5, 0.3), GROUPS, samples=200, seed=7)
    assert (found.worst, found.best, found.gap.users) == ("left", "middle", 70)
    assert found.worst_value.mean == pytest.approx(0.2) and found.worst_value.users == 40
    assert (found.gap.mean, found.gap.low, found.gap.high) == pytest.approx((0.3, 0.3, 0.3))


def test_users_without_a_value_are_in_no_group():
    some = values(0.2, 0.5, 0.3)
    some[:25] = np.nan
    found = group_gap(some, GROUPS, samples=50, seed=7)
    assert found.worst == "right" and found.worst_value.users == 30


def test_the_interval_holds_what_noise_alone_makes_of_a_gap():
    found = group_gap(values(0.5, 0.5, 0.5, noise=0.2), GROUPS, samples=1000, seed=7)
    assert found.gap.mean > 0 > found.gap.low
    sure = group_gap(values(0.2, 0.5, 0.3, noise=0.05), GROUPS, samples=1000, seed=7)
    assert 0.2 < sure.gap.low < sure.gap.mean < sure.gap.high < 0.4


def test_one_group_alone_has_no_gap():
    found = group_gap(values(0.1, 0.2, 0.3), {"left": GROUPS["left"]}, samples=50, seed=7)
    assert found.worst == "" and np.isnan(found.gap.mean)
