"""Lists by maximal marginal relevance: one by hand, and what holds for every one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.metrics import diversity as unlikeness
from pipeline.models.diversity import diverse_top_k
from pipeline.models.recommender import top_k

# Two of a kind (2 and 3), one of another (4), one half of each (5); padding and unknown in front.
KINDS = np.array([[0, 0], [0, 0], [1, 0], [1, 0], [0, 1], [1, 1]], dtype=np.float32)
SCORES = np.array([[-np.inf, -np.inf, 10.0, 9.0, 6.0, 2.0]], dtype=np.float32)


@pytest.mark.parametrize(("diversity", "wanted"), [
    # relevance 1, .875, .5, 0. At .5 after item 2: 3 has .4375 - .5 = -.0625, 4 has .25 - 0, 5 has 0 - .354.
    # After 4 as well: 3 has -.0625, 5 has -.354.
    (0.5, [2, 4, 3, 5]),
    # At .2: 3 has .7 - .2 = .5, 4 has .4: the twin is worth more.
    (0.2, [2, 3, 4, 5]),
    # At 1 only likeness counts: 4 is unlike 2 (0), then 5 (.707) is less like either than 3 (1) is.
    (1.0, [2, 4, 5, 3]),
])
def test_a_list_by_hand(diversity, wanted):
    items, scores = diverse_top_k(SCORES, 4, None, KINDS, diversity)
    assert items[0].tolist() == wanted
    assert scores[0].tolist() == SCORES[0, wanted].tolist()


def test_more_than_there_is_ends_in_empty_places():
    items, scores = diverse_top_k(SCORES, 6, None, KINDS, 0.5)
    assert items[0].tolist() == [2, 4, 3, 5, -1, -1] and np.isneginf(scores[0, 4:]).all()


worlds = st.tuples(
    st.integers(1, 6), st.integers(4, 40), st.integers(1, 12), st.integers(0, 2**32 - 1),
).map(lambda drawn: (np.random.default_rng(drawn[3]), *drawn[:3]))


@settings(max_examples=60, deadline=None)
@given(worlds, st.floats(0.0, 1.0))
def test_every_list_begins_with_the_best_item_and_names_none_twice(world, diversity):
    rng, users, num_items, k = world
    scores = rng.normal(size=(users, num_items)).round(1).astype(np.float32)
    scores[:, :2] = -np.inf
    scores[rng.random(scores.shape) < 0.3] = -np.inf
    vectors = rng.normal(size=(num_items, 3)).astype(np.float32)
    plain, worth = top_k(scores, k)
    items, values = diverse_top_k(scores, k, None, vectors, diversity)
    unchanged, same = diverse_top_k(scores, k, None, vectors, 0.0)
    assert np.array_equal(unchanged, plain) and np.array_equal(same, worth)
    for row, value, own, best in zip(items, values, scores, plain, strict=True):
        named = row[row >= 0]
        assert len(named) == (best >= 0).sum() == len(np.unique(named))
        assert np.array_equal(value[row >= 0], own[named]) and np.isfinite(own[named]).all()
    if diversity < 1:  # at 1 nothing has been chosen before the first, so all are alike
        assert np.array_equal(worth[:, 0], values[:, 0])


def test_lists_grow_unlike_as_diversity_grows():
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(200, 8)).astype(np.float32)
    scores = (rng.normal(size=(50, 8)) @ vectors.T).astype(np.float32)  # what is liked is alike
    scores[:, :2] = -np.inf
    means = [unlikeness(diverse_top_k(scores, 10, None, vectors, part)[0], vectors).mean() for part in (0.0, 0.3, 0.7)]
    assert means[0] < means[1] < means[2]


def test_a_diversity_that_is_no_share_is_refused():
    with pytest.raises(ValueError, match="from 0 to 1"):
        diverse_top_k(SCORES, 4, None, KINDS, 1.5)
