"""How the collaborative filter's network is trained: on which examples, against what, and judged by which moment."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import torch

from pipeline.features.histories import FIRST_ITEM, microseconds_of
from pipeline.models.collaborative_filter import CollaborativeFilterConfig
from pipeline.models.factor_losses import Batch, full_loss, sampled_loss
from pipeline.models.factor_model import FactorModel
from pipeline.models.factor_training import FactorTraining
from pipeline.models.user_examples import examples_at_random, examples_between, trend_at

START = datetime(2026, 3, 1, tzinfo=UTC)
VALIDATION = START - timedelta(days=10)
SMALL = CollaborativeFilterConfig(factors=8, batch_size=64, learning_rate=0.005, horizon_days=30.0)


def test_of_new_days_alone_the_cuts_lie_in_them(village):
    histories, _ = village
    since = microseconds_of(VALIDATION)
    examples = examples_at_random(histories, np.random.default_rng(1), 3, 30.0, 30, 200, True, since)
    came = np.flatnonzero(histories.between(VALIDATION, START + timedelta(days=99)).lengths)
    assert (examples.moments >= since).all() and examples.context.times.min() < since
    assert set(examples.context.user_ids) == set(histories.user_ids[came])


def test_left_one_out_the_filter_is_chosen_on_what_was_popular_when_each_user_was_last_seen(village):
    histories, catalogue = village
    ahead = histories.offsets[1:][histories.owners] - np.arange(histories.num_events)
    train, current = histories.keep(ahead > 1), histories.keep(ahead == 1)

    def training(moment):
        model = FactorModel(catalogue.num_items, 4, 1, 1)
        return FactorTraining(SMALL, model, None, train, current, moment)

    own = training(None)
    moments = own.trend.moments[own.validation_rows.numpy()]
    newest = own.validation.context.times[own.validation.context.offsets[1:] - 1]
    assert (moments <= newest).all() and len(np.unique(moments)) > 1
    assert torch.equal(own.validation_trend, torch.from_numpy(own.trend.values))
    together = training(START)
    assert together.validation_rows.tolist() == [0] * together.validation.num_examples
    np.testing.assert_array_equal(together.validation_trend[0], trend_at(train, catalogue.num_items, START))


@pytest.mark.parametrize("full_softmax_items", [5, 6_000])
def test_what_nobody_has_had_is_no_negative(village, full_softmax_items):
    """Its factors are not pushed away from anybody; those of an item that was had and not taken are."""
    histories, catalogue = village
    fresh = FIRST_ITEM + 59
    known = replace(histories, items=np.minimum(histories.items, fresh - 1))
    model = FactorModel(catalogue.num_items, 8, 1, 1)
    with torch.no_grad():
        model.item_factors.normal_()
        model.history_factors.normal_()
    before = model.item_factors.detach().clone()
    config = replace(SMALL, full_softmax_items=full_softmax_items, weight_decay=0.0)
    FactorTraining(config, model, None, known, known.take([]), START).learn_history(2)
    moved = (model.item_factors.detach() - before).abs().sum(dim=1)
    assert moved[fresh] == 0 and model.item_bias[fresh] == 0 and (moved[FIRST_ITEM:fresh] > 0).all()


def test_the_sampled_loss_of_all_items_is_that_of_the_full_softmax(village):
    """With every item drawn once, and each standing for itself, nothing is left to be estimated."""
    histories, catalogue = village
    torch.manual_seed(3)
    model = FactorModel(catalogue.num_items, 8, 1, 1, text_dim=5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    text = torch.randn(catalogue.num_items, 5)
    examples = examples_between(histories.before(VALIDATION), histories.between(VALIDATION, START), VALIDATION, False)
    trend = torch.rand(3, 3, catalogue.num_items)
    rows = torch.arange(examples.num_examples) % 3
    batch = Batch(examples, torch.zeros(examples.num_examples, 1), trend, rows)
    special = torch.arange(catalogue.num_items) < FIRST_ITEM
    every = np.arange(FIRST_ITEM, catalogue.num_items)
    full = full_loss(model, text, batch, special, include_seen=False)
    sampled = sampled_loss(model, text, batch, every, torch.zeros(len(every)), include_seen=False)
    assert float(sampled.detach()) == pytest.approx(float(full.detach()), rel=1e-5)
