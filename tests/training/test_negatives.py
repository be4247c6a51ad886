"""What the sampled softmax is told of items that somebody could have taken."""

import numpy as np
import pytest

from pipeline.features.histories import FIRST_ITEM
from pipeline.training.negatives import SharedNegatives

HAD = np.array([2, 2, 2, 2, 3, 3, 5], dtype=np.int32)


def test_items_are_drawn_as_their_popularity_to_a_power_says():
    source = SharedNegatives(HAD, 7, power=0.5, samples=200_000)
    items, offsets = source.draw(np.random.default_rng(1))
    weights = np.array([5.0, 3.0, 2.0]) ** 0.5
    assert items.tolist() == [2, 3, 5]
    assert np.exp(source.log_q[items]) == pytest.approx(200_000 * weights / weights.sum(), rel=1e-5)
    assert offsets == pytest.approx(0.0, abs=0.02)  # drawn as often as expected, so each stands for itself


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_what_nobody_has_had_is_never_drawn(power):
    items, _ = SharedNegatives(HAD, 7, power, samples=5_000).draw(np.random.default_rng(2))
    assert not {4, 6} & set(items.tolist()) and items.min() >= FIRST_ITEM


def test_a_log_without_events_gives_no_negatives():
    items, offsets = SharedNegatives(HAD[:0], 7, 0.5, samples=10).draw(np.random.default_rng(3))
    assert not len(items) and not len(offsets)
