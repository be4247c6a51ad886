"""Where item vectors start: near those that the same people had, and for items without events nowhere."""

from dataclasses import replace

import numpy as np

from pipeline.features.histories import FIRST_ITEM, Histories
from pipeline.models.item_start import co_occurrence_vectors


def two_circles(users: int = 60, items: int = 24) -> Histories:
    """Every user has eight of the items of one of two circles; the last two items nobody."""
    rng = np.random.default_rng(2)
    half = (items - 2) // 2
    had = np.concatenate([FIRST_ITEM + half * (user % 2) + rng.permutation(half)[:8] for user in range(users)])
    return Histories(
        user_ids=np.array([f"u{user:02d}" for user in range(users)], dtype=object),
        offsets=np.arange(users + 1, dtype=np.int64) * 8,
        items=had.astype(np.int32),
        types=np.ones(len(had), dtype=np.int16),
        times=np.tile(np.arange(8), users),
        event_types=("view",),
    )


def test_items_of_one_circle_start_together_and_items_without_events_at_zero():
    vectors = co_occurrence_vectors(two_circles(), FIRST_ITEM + 24, 4, seed=1)
    assert vectors.shape == (FIRST_ITEM + 24, 4) and vectors.dtype == np.float32
    lengths = np.linalg.norm(vectors, axis=1)
    assert (lengths <= 1.0).all() and (lengths[FIRST_ITEM:-2] > 0.5).all()
    assert (lengths[:FIRST_ITEM] == 0).all() and (lengths[-2:] == 0).all()
    unit = vectors[FIRST_ITEM:-2] / lengths[FIRST_ITEM:-2, None]
    likeness = unit @ unit.T
    assert likeness[:11, :11].mean() > likeness[:11, 11:].mean() + 0.5


def test_the_same_seed_gives_the_same_start_and_repeats_do_not_count():
    histories = two_circles()
    vectors = co_occurrence_vectors(histories, FIRST_ITEM + 24, 4, seed=1)
    twice = replace(histories, offsets=histories.offsets * 2, items=np.repeat(histories.items, 2),
                    types=np.repeat(histories.types, 2), times=np.repeat(histories.times, 2))
    assert np.array_equal(vectors, co_occurrence_vectors(twice, FIRST_ITEM + 24, 4, seed=1))


def test_a_log_smaller_than_the_vectors_leaves_the_rest_empty():
    histories = two_circles(users=3)
    vectors = co_occurrence_vectors(histories, FIRST_ITEM + 24, 64, seed=1)
    assert np.isfinite(vectors).all() and vectors.any() and not vectors[:, 3:].any()
    assert not co_occurrence_vectors(histories.take([]), FIRST_ITEM + 24, 8, seed=1).any()
