"""Metrics against values that were worked out by hand, and against a public library."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from pipeline.evaluation import metrics

HITS = np.array([[1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]], dtype=bool)
RELEVANT = np.array([3, 1, 2, 0])


def test_hit_rate_asks_for_one_hit_and_has_no_value_without_a_relevant_item():
    np.testing.assert_array_equal(metrics.hit_rate_at_k(HITS, RELEVANT, 2), [1, 0, 0, np.nan])
    np.testing.assert_array_equal(metrics.hit_rate_at_k(HITS, RELEVANT, 4), [1, 1, 0, np.nan])


def test_recall_divides_by_all_relevant_items_also_those_beyond_the_list():
    np.testing.assert_allclose(metrics.recall_at_k(HITS, RELEVANT, 4), [2 / 3, 1, 0, np.nan])


def test_mrr_is_one_over_the_rank_of_the_first_hit():
    np.testing.assert_allclose(metrics.mrr_at_k(HITS, RELEVANT, 4), [1, 1 / 4, 0, np.nan])
    np.testing.assert_allclose(metrics.mrr_at_k(HITS, RELEVANT, 3), [1, 0, 0, np.nan])


def test_ndcg_discounts_by_rank_and_compares_with_the_best_list():
    # User 0: hits at ranks 0 and 2: 1 + 1/2. Best of three relevant: 1 + 1/log2(3) + 1/2. User 1: 1 / log2(5).
    best = 1 + 1 / np.log2(3) + 0.5
    np.testing.assert_allclose(metrics.ndcg_at_k(HITS, RELEVANT, 4), [1.5 / best, 1 / np.log2(5), 0, np.nan])
    # At k = 2 the best list has two items only.
    assert metrics.ndcg_at_k(HITS, RELEVANT, 2)[0] == pytest.approx(1 / (1 + 1 / np.log2(3)))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 12))
def test_ndcg_equals_the_one_of_scikit_learn(seed, k):
    rng = np.random.default_rng(seed)
    relevance = (rng.random((5, 12)) < 0.3).astype(float)
    scores = rng.permuted(np.tile(np.arange(12.0), (5, 1)), axis=1)  # no ties
    order = np.argsort(-scores, axis=1)
    hits = np.take_along_axis(relevance, order, axis=1) > 0
    ours = metrics.ndcg_at_k(hits, relevance.sum(axis=1).astype(int), k)
    for row in range(5):
        if relevance[row].sum():
            assert ours[row] == pytest.approx(ndcg_score(relevance[row : row + 1], scores[row : row + 1], k=k))
        else:
            assert np.isnan(ours[row])


@pytest.mark.parametrize("k", [0, 5])
def test_a_depth_outside_the_list_is_refused(k):
    with pytest.raises(ValueError, match="between 1 and the 4 ranks"):
        metrics.recall_at_k(HITS, RELEVANT, k)


def test_coverage_counts_real_items_that_somebody_was_shown():
    assert metrics.coverage(np.array([[2, 3], [3, -1]]), num_items=6) == pytest.approx(2 / 4)


def test_exposure_is_even_when_every_item_is_shown_as_often_and_uneven_when_one_is():
    assert metrics.exposure_gini(np.array([[2, 3], [4, 5]]), num_items=6) == pytest.approx(0.0)
    assert metrics.exposure_gini(np.array([[2, -1], [2, -1]]), num_items=6) == pytest.approx(3 / 4)
    # 0, 0, 1, 3 of four items: (-3 * 0 - 1 * 0 + 1 * 1 + 3 * 3) / (4 * 4)
    assert metrics.exposure_gini(np.array([[2, 3], [2, -1], [2, -1]]), num_items=6) == pytest.approx(10 / 16)
    assert np.isnan(metrics.exposure_gini(np.full((2, 3), -1), num_items=6))


def test_calibration_error_is_the_mean_distance_between_what_was_said_and_what_happened():
    said = np.array([0.1, 0.9, 0.3, 0.7])
    happened = np.array([False, True, True, True])
    # Halves: .1 and .3 say .2 where .5 happen, .7 and .9 say .8 where all happen.
    assert metrics.calibration_error(said, happened, bins=2) == pytest.approx((0.3 + 0.2) / 2)
    assert metrics.calibration_error(said, happened, bins=9) == pytest.approx((0.1 + 0.1 + 0.7 + 0.3) / 4)
    assert np.isnan(metrics.calibration_error(said[:0], happened[:0]))


def test_popularity_exposure_is_the_share_of_the_head_in_a_list():
    head = np.array([False, False, True, False, True])
    lists = np.array([[2, 3, 4], [3, -1, -1], [-1, -1, -1]])
    np.testing.assert_allclose(metrics.popularity_exposure(lists, head), [2 / 3, 0, np.nan])


def test_overlap_is_what_two_lists_share_in_any_order():
    one = np.array([[2, 3, 4], [2, 3, 4], [2, -1, -1], [-1, -1, -1]])
    other = np.array([[4, 2, 3], [5, 6, 2], [2, 3, -1], [-1, -1, -1]])
    np.testing.assert_allclose(metrics.overlap(one, other), [1, 1 / 3, 1 / 2, np.nan])


def test_novelty_is_the_information_of_what_is_shown():
    counts = np.array([0, 0, 3, 1, 0])  # three real items: p = 4/7, 2/7, 1/7
    lists = np.array([[2, 4], [3, -1], [-1, -1]])
    expected = [(-np.log2(4 / 7) - np.log2(1 / 7)) / 2, -np.log2(2 / 7), np.nan]
    np.testing.assert_allclose(metrics.novelty(lists, counts), expected)


def test_diversity_is_one_minus_the_mean_cosine_of_the_pairs():
    vectors = np.array([[0, 0], [0, 0], [2, 0], [0, 3], [1, 1]], dtype=float)
    lists = np.array([[2, 3, 4], [2, -1, -1], [2, 2, -1]])
    cosines = (0 + np.sqrt(0.5) + np.sqrt(0.5)) / 3
    np.testing.assert_allclose(metrics.diversity(lists, vectors), [1 - cosines, np.nan, 0.0], atol=1e-12)


def test_a_list_with_the_users_own_mix_is_calibrated():
    categories = np.array([[0, 0], [0, 0], [1, 0], [0, 1]], dtype=float)
    lists = np.array([[2, 3], [2, 2], [2, -1]])
    mix = np.array([[0.5, 0.5], [0.5, 0.5], [0.0, 0.0]])
    skewed = 0.5 * np.log(0.5 / (0.99 + 0.005)) + 0.5 * np.log(0.5 / 0.005)
    np.testing.assert_allclose(metrics.miscalibration(lists, categories, mix), [0, skewed, np.nan], atol=1e-12)
