"""Lists of a release: cut some users at a time, from scores that are those of all at once."""

from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from pipeline.features.histories import FIRST_ITEM
from pipeline.models import release as releases
from pipeline.models.collaborative_filter import CollaborativeFilter
from pipeline.models.factor_model import FactorModel

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def release(interest_world) -> releases.Release:
    interest = interest_world.model().eval()
    interest.name_space()
    catalogue, histories = interest.catalogue, interest_world.histories
    interest.trained_items[FIRST_ITEM:] = True
    filtered = CollaborativeFilter(space_id=interest.config.space_id, interest_strength=(0.5, 0.1))
    filtered.catalogue, filtered.event_types = catalogue, histories.event_types
    filtered.interest_items = interest.item_vectors()
    filtered.model = FactorModel(catalogue.num_items, 4, interest.config.dim, len(histories.event_types)).eval()
    with torch.no_grad():
        for value in filtered.model.parameters():
            value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(5)) * 0.1)
    return releases.Release(filtered, interest, catalogue.category_matrix()).observe(histories, AS_OF)


def test_lists_cut_some_users_at_a_time_are_a_stable_sort_of_all_scores(release, interest_world, monkeypatch):
    histories = interest_world.histories
    monkeypatch.setattr(releases, "USERS_AT_ONCE", 3)
    assert histories.num_users % 3 and histories.num_users > 6
    seen = histories.owners, histories.items
    items, scores = release.best(histories, 5, seen, AS_OF)
    expected = release.scores(histories, AS_OF)
    expected[seen] = -np.inf
    order = np.argsort(-expected, axis=1, kind="stable")[:, :5]
    left = np.isfinite(np.take_along_axis(expected, order, axis=1))
    assert np.array_equal(items, np.where(left, order, -1))
    np.testing.assert_allclose(scores[left], np.take_along_axis(expected, order, axis=1)[left], atol=1e-4)


def test_nobody_gets_no_lists(release, interest_world):
    items, scores = release.best(interest_world.histories.take([]), 5, None, AS_OF)
    assert items.shape == scores.shape == (0, 5)
