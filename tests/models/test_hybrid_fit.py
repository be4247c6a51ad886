"""How far items that nobody has had are lifted into the hybrid's lists."""

import numpy as np
import pytest

from pipeline.features.histories import EPOCH, FIRST_ITEM, Histories
from pipeline.models.hybrid import add_standardised
from pipeline.models.hybrid_fit import SHIFTS, choose_shift
from pipeline.models.user_examples import Examples, examples_between

USERS, ITEMS, FRESH = 12, 90, 4


def world(wanted: np.ndarray) -> tuple:
    """Everybody has had item 2 and wants one item of `wanted`; the last four items are those that nobody has had."""
    ids = np.array([f"u{user:02d}" for user in range(USERS)], dtype=object)
    kinds, times = np.ones(USERS, np.int16), np.zeros(USERS, np.int64)
    offsets = np.arange(USERS + 1, dtype=np.int64)
    known = Histories(ids, offsets, np.full(USERS, FIRST_ITEM, np.int32), kinds, times, ("view",))
    future = Histories(ids, offsets, wanted.astype(np.int32), kinds, times + 1, ("view",))
    unseen = np.zeros(ITEMS, dtype=bool)
    unseen[-FRESH:] = True
    return examples_between(known, future, EPOCH, False), unseen


def score(examples: Examples) -> np.ndarray:
    """Items from 3 on in falling order, a hundredth apart; those that nobody has had 1.2 below the best."""
    row = -0.01 * np.arange(ITEMS, dtype=np.float32)
    row[-FRESH:] = -1.2
    row[:FIRST_ITEM] = -np.inf
    return np.tile(row, (examples.num_examples, 1))


def test_new_items_that_are_wanted_are_lifted_into_the_list():
    examples, unseen = world(np.full(USERS, ITEMS - 1))
    assert choose_shift(examples, score, unseen, False) > 1.0


def test_they_are_not_lifted_above_what_is_wanted_more():
    examples, unseen = world(np.full(USERS, FIRST_ITEM + 10))  # the tenth place of the list
    shift = choose_shift(examples, score, unseen, False)
    assert 0.5 <= shift < 1.5  # room until they would push it out of the first ten


def test_nothing_is_lifted_where_everything_has_been_had():
    examples, unseen = world(np.full(USERS, 20))
    assert choose_shift(examples, score, np.zeros_like(unseen), False) == 0.0
    assert SHIFTS[0] == 0.0


@pytest.mark.parametrize("more", [0.0, 0.7])
def test_scores_are_added_with_mean_0_and_deviation_1(more):
    rng = np.random.default_rng(3)
    scores = rng.normal(5.0, 3.0, (130, 40)).astype(np.float32)
    scores[:, :FIRST_ITEM] = -np.inf
    scores[1, FIRST_ITEM:] = 4.0
    total, unseen = np.ones_like(scores), np.array([7, 30])
    add_standardised(total, scores, 0.5, unseen, more)
    real = scores[:, FIRST_ITEM:].astype(np.float64)
    wanted = (real - real.mean(axis=1, keepdims=True)) / np.maximum(real.std(axis=1, keepdims=True), 1e-9)
    weights = np.full(38, 0.5)
    weights[unseen - FIRST_ITEM] += more
    np.testing.assert_allclose(total[:, FIRST_ITEM:], 1.0 + weights * wanted, atol=1e-4)
