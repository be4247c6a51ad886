"""How a list is cut from scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.features.histories import Histories
from pipeline.models.recommender import top_k


def seen(*items: list[int]) -> Histories:
    flat = np.concatenate([np.asarray(each, dtype=np.int32) for each in items])
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in items])]).astype(np.int64)
    users = np.array([f"u{number}" for number in range(len(items))], dtype=object)
    return Histories(users, offsets, flat, np.ones(len(flat), np.int16), np.zeros(len(flat), np.int64), ("view",))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 14), levels=st.integers(1, 12))
def test_it_equals_a_stable_sort_however_many_scores_are_equal(seed, k, levels):
    rng = np.random.default_rng(seed)
    scores = rng.integers(levels, size=(6, 12)).astype(np.float32)
    scores[:, :2] = -np.inf
    items, values = top_k(scores, k)
    order = np.argsort(-scores, axis=1, kind="stable")[:, : min(k, 10)]
    np.testing.assert_array_equal(items[:, : order.shape[1]], order)
    np.testing.assert_array_equal(values[:, : order.shape[1]], np.take_along_axis(scores, order, axis=1))
    assert (items[:, 10:] == -1).all() and np.isneginf(values[:, 10:]).all()


def test_seen_items_make_room_and_a_short_list_ends_in_minus_one():
    scores = np.array([[-np.inf, -np.inf, 3, 2, 1], [-np.inf, -np.inf, 1, 2, 3]], dtype=np.float32)
    items, values = top_k(scores, 2, seen([2], [2, 4, 4, 1]))
    assert items.tolist() == [[3, 4], [3, -1]]
    assert values.tolist() == [[2, 1], [2, -np.inf]]
    assert scores[0, 2] == 3  # the caller's matrix is untouched


def test_scores_that_cannot_be_ordered_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        top_k(np.array([[0.0, np.nan]]), 1)
    with pytest.raises(ValueError, match="at least 1"):
        top_k(np.zeros((1, 3)), 0)
    with pytest.raises(ValueError, match="same users"):
        top_k(np.zeros((3, 5)), 1, seen([2]))


