"""Scores of the hybrid as probabilities."""

import numpy as np
import pytest

from pipeline.evaluation.metrics import calibration_error
from pipeline.features.histories import EPOCH, FIRST_ITEM, Histories
from pipeline.models.hybrid import Hybrid
from pipeline.models.platt import DEPTH, PlattScale, calibrate_lists, fit_platt
from pipeline.models.user_examples import Examples, examples_between


def test_the_scale_that_made_the_hits_is_found_again():
    rng = np.random.default_rng(4)
    scores = rng.normal(30.0, 5.0, 60_000).astype(np.float32)
    true = PlattScale(0.4, -14.0)
    hits = rng.random(len(scores)) < true(scores)
    found = fit_platt(scores, hits)
    assert found.slope == pytest.approx(0.4, rel=0.05) and found.offset == pytest.approx(-14.0, rel=0.05)
    assert calibration_error(found(scores), hits) < 0.01 < calibration_error(PlattScale(1.0, 0.0)(scores), hits)


def test_scores_that_say_the_opposite_give_one_probability_and_do_not_turn_the_list():
    scores = np.arange(100, dtype=np.float32)
    found = fit_platt(scores, scores < 50)
    assert found.slope == 0.0 and found(scores) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("hits", [np.zeros(9, dtype=bool), np.ones(9, dtype=bool), np.zeros(0, dtype=bool)])
def test_where_nothing_differs_nothing_is_fitted(hits):
    assert fit_platt(np.ones(len(hits), dtype=np.float32), hits) is None


def test_scores_apart_as_wide_as_can_be_stay_finite():
    found = fit_platt(np.array([-1e6, 1e6], dtype=np.float32), np.array([False, True]))
    assert np.isfinite(found(np.array([-1e9, 0.0, 1e9]))).all() and found(np.array([-np.inf]))[0] == 0.0


def test_what_is_had_is_not_in_the_list_that_is_read():
    """Everybody has had the item of the highest score, and half of them take the next one, which nobody else does."""
    users, items = 40, DEPTH + 10
    ids = np.array([f"u{user:02d}" for user in range(users)], dtype=object)
    kinds, times, offsets = np.ones(users, np.int16), np.zeros(users, np.int64), np.arange(users + 1, dtype=np.int64)
    known = Histories(ids, offsets, np.full(users, FIRST_ITEM, np.int32), kinds, times, ("view",))
    taken = np.where(np.arange(users) % 2, FIRST_ITEM + 1, items - 1).astype(np.int32)  # the last is in no list
    future = Histories(ids, offsets, taken, kinds, times + 1, ("view",))
    row = np.concatenate([[-np.inf] * FIRST_ITEM, [9.0, 5.0], np.linspace(0.0, -1.0, items - FIRST_ITEM - 2)])

    def score(examples: Examples) -> np.ndarray:
        return np.tile(row.astype(np.float32), (examples.num_examples, 1))

    found = calibrate_lists(examples_between(known, future, EPOCH, False), score, False)
    assert found(np.array([5.0]))[0] == pytest.approx(0.5, abs=0.05) and found(np.array([0.0]))[0] < 0.02


def test_a_hybrid_keeps_its_scale_on_disk(tmp_path):
    hybrid = Hybrid({"one": None})
    hybrid.calibration = PlattScale(0.25, -3.0)
    hybrid.save(tmp_path)
    assert Hybrid.load(tmp_path, {"one": None}).calibration == PlattScale(0.25, -3.0)
    hybrid.calibration = None
    hybrid.save(tmp_path)
    assert Hybrid.load(tmp_path, {"one": None}).calibration is None
