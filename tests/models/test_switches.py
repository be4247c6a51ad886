"""Parts of the interest model that can be switched off: then nothing of them is read, and the rest still learns."""

from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from pipeline.features.histories import FIRST_ITEM

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
OFF = {
    "text": {"reads_text": False}, "time": {"reads_time": False}, "trend": {"reads_trend": False},
    "all-action": {"future_weight": 0.0}, "category mix": {"mix_weight": 0.0}, "event type": {"type_weight": 0.0},
    "pooled history": {"pools_history": False},
}


@pytest.fixture(params=sorted(OFF))
def changes(request) -> dict[str, object]:
    return OFF[request.param]


def test_a_change_of_the_future_leaves_every_earlier_state_as_it_was(interest_world, events, changes):
    model = interest_world.model(**changes)
    items = events["items"].clone()
    items[:, 7:] = 2 + (items[:, 7:] - 1) % 20
    table = model.item_table()
    before, after = model.states(table, **events), model.states(table, **events | {"items": items})
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:])


def test_some_steps_make_the_loss_fall(interest_world, events, changes):
    losses = interest_world.losses_of_steps(events, **changes)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("encoder", ["transformer", "gru"])
def test_without_time_every_state_is_the_same_whenever_it_happened(interest_world, events, encoder):
    model = interest_world.model(encoder=encoder, **OFF["time"])
    later = events | {"times": events["times"] * 3}
    assert torch.equal(model.states(model.item_table(), **events), model.states(model.item_table(), **later))


def test_without_the_trend_nobody_is_told_what_is_popular(interest_world):
    for model, hears in ((interest_world.learner(), True), (interest_world.learner(**OFF["trend"]), False)):
        before = model.scores(interest_world.histories, AS_OF)
        model.trend[:, 5] += 3.0
        assert (not np.array_equal(before, model.scores(interest_world.histories, AS_OF))) == hears
        assert all(value.requires_grad == hears for name, value in model.named_parameters() if "trend" in name)


def test_without_text_an_item_is_its_id_alone_and_keeps_it_in_every_step(interest_world, events):
    model = interest_world.model(**OFF["text"]).train()
    assert model.config.text_dim == 0 and model.item_text is None
    batch = model.prepared(events, torch.Generator().manual_seed(1))
    assert not batch["dropped"].any()
    assert torch.equal(model.item_table(batch["dropped"]), model.item_id.weight * model.trained_items[:, None])


def test_an_item_without_text_keeps_its_id_in_every_step(interest_world, events):
    model = interest_world.learner(item_dropout=1.0)
    model.text_vectors[FIRST_ITEM] = 0.0
    model.train()
    batch = model.prepared(interest_world.batch(events), torch.Generator().manual_seed(0))
    assert batch["dropped"].tolist() == [False] * (FIRST_ITEM + 1) + [True] * (model.config.num_items - FIRST_ITEM - 1)


def test_while_training_what_nobody_has_had_is_no_choice_that_was_turned_down(interest_world, events):
    """Of the full softmax; the sampled one never draws it."""
    model = interest_world.learner(reads_text=False)
    fresh = model.config.num_items - 1
    model.trained_items[fresh] = False
    batch = interest_world.batch({name: value.clamp(max=fresh - 1) if name == "items" else value
                                  for name, value in events.items()})
    with torch.no_grad():
        model.train()
        before = model(batch)["next"]
        model.heads.next_trend.fill_(1.0)
        batch["trend"][:, fresh] = 50.0
        after = model(batch)["next"]
        told = model.eval()(batch)["next"]
    assert before == after and told > after + 1.0


def test_without_the_all_action_head_scores_are_those_of_the_next_item(interest_world):
    model, histories = interest_world.model(**OFF["all-action"]), interest_world.histories
    before = model.scores(histories, AS_OF)
    with torch.no_grad():
        model.heads.long_term[0].weight.normal_()
        model.heads.long_term_trend.normal_()
    assert np.array_equal(before, model.scores(histories, AS_OF))


def test_a_loss_without_weight_is_not_computed(interest_world, events):
    assert set(interest_world.parts_of_the_loss(events)) == {"loss", "next", "future", "mix", "type"}
    for name, part in (("all-action", "future"), ("category mix", "mix"), ("event type", "type")):
        assert part not in interest_world.parts_of_the_loss(events, **OFF[name])
