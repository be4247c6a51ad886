"""Intervals of a benchmark: paired by user, and as wide as users and seeds together make them."""

import numpy as np
import pytest

from pipeline.benchmark.scores import score_table


def test_changes_are_paired_by_user():
    values = {"one": {"m": np.array([0.0, 1.0] * 50)}, "two": {"m": np.array([0.1, 1.1] * 50)}}
    row = score_table(values, ("m",), "one", 500, 3)[1]["m"]
    assert row["change"] == pytest.approx(0.2)
    assert row["change_low"] > 0.1 and row["low"] < 0.55  # the difference is certain, the mean is not


def test_seeds_that_disagree_widen_the_interval_although_all_users_agree():
    """All users of a seed are alike, so the interval is that of the mean of three drawn seeds: .2 to .6 at the most."""
    values = {"model": {"m": np.repeat([[0.2], [0.3], [0.6]], 40, axis=1)}, "fixed": {"m": np.full(40, 0.2)}}
    model, fixed = (row["m"] for row in score_table(values, ("m",), "fixed", 4000, 3))
    assert model["mean"] == pytest.approx(1.1 / 3)
    assert (model["low"], model["high"]) == (pytest.approx(0.2), pytest.approx(0.6))  # each one in 27
    assert (model["change_low"], model["change_high"]) == (pytest.approx(0.0), pytest.approx(2.0))
    assert fixed["low"] == pytest.approx(fixed["high"])


def test_seeds_are_drawn_alike_for_all_models():
    """The second model is .1 above the first with every seed, so their difference does not depend on the seeds."""
    ups = np.repeat([[0.2], [0.4], [0.6]], 40, axis=1)
    values = {"one": {"m": ups}, "two": {"m": 1.1 * ups}}
    row = score_table(values, ("m",), "one", 500, 3)[1]["m"]
    assert row["change_low"] == pytest.approx(0.1) and row["change_high"] == pytest.approx(0.1)
