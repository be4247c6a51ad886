"""Intervals: seeded, paired, and about as wide as they should be."""

import numpy as np
import pytest

from pipeline.evaluation.bootstrap import interval_of, paired_difference, resampled_means


def test_an_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        values = rng.exponential(size=60)
        interval = interval_of(values, resampled_means(values[:, None], 300, trial)[:, 0], 0.9)
        covered += interval.low <= 1.0 <= interval.high
    assert 0.80 <= covered / 200 <= 0.97


def test_two_columns_are_resampled_with_the_same_users():
    values = np.random.default_rng(2).random(50)
    means = resampled_means(np.stack([values, values + 1], axis=1), 100, seed=3)
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 1.0)


def test_a_pair_is_surer_than_its_two_sides():
    rng = np.random.default_rng(4)
    easy = rng.random(200)  # how easy each user is
    better, worse = easy + 0.05 + 0.01 * rng.standard_normal(200), easy
    absolute, relative = paired_difference(better, worse, 500, 5, 0.95)
    assert 0.04 < absolute.low < absolute.mean < absolute.high < 0.06
    assert relative.mean == pytest.approx(absolute.mean / worse.mean())


def test_the_same_seed_gives_the_same_interval_in_chunks_or_at_once(monkeypatch):
    values = np.random.default_rng(6).random((40, 2))
    at_once = resampled_means(values, 50, seed=7)
    monkeypatch.setattr("pipeline.evaluation.bootstrap.CELLS_AT_ONCE", 100)
    np.testing.assert_allclose(resampled_means(values, 50, seed=7), at_once)


def test_users_without_a_value_are_left_out():
    values = np.array([1.0, np.nan, 3.0])
    interval = interval_of(values, resampled_means(values[:, None], 200, 0)[:, 0], 0.95)
    assert (interval.mean, interval.users) == (2.0, 2)
    assert 1.0 <= interval.low <= interval.high <= 3.0


def test_nobody_with_a_value_gives_no_number_and_no_warning():
    nothing = np.array([np.nan, np.nan])
    absolute, relative = paired_difference(nothing, np.ones(2), 100, 0, 0.95)
    assert np.isnan(absolute.mean) and np.isnan(relative.low) and absolute.users == 0


def test_a_gain_over_a_reference_without_a_hit_is_infinite_not_an_error():
    _, relative = paired_difference(np.array([1.0, 1.0]), np.zeros(2), 100, 0, 0.95)
    assert relative.mean == relative.high == np.inf
