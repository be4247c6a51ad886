"""The filter for events that are unlike their history: causal, learned, and open to what fits."""

import torch

from pipeline.models.noise_filter import NoiseFilter

ON = {"noise_filter": True}


def test_an_event_that_is_unlike_its_history_is_kept_less_than_one_that_fits():
    likes, other = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.1])
    kept = NoiseFilter(2).kept(torch.stack([likes, likes, other, likes])[None])[0, :, 0]
    assert kept[0] == 1.0 and kept[2] < 0.6 < 0.9 < kept[3] < kept[1]


def test_what_is_not_kept_says_noise_instead():
    one = NoiseFilter(3)
    with torch.no_grad():
        one.offset.fill_(-50.0)
        one.noise.copy_(torch.tensor([1.0, 2.0, 3.0]))
    found = one(torch.randn(2, 4, 3), torch.randn(2, 4, 3))
    assert torch.allclose(found[:, 1:], one.noise.expand(2, 3, 3), atol=1e-5)


def test_a_change_of_the_future_leaves_every_earlier_state_as_it_was(interest_world, events):
    model, items = interest_world.model(**ON), events["items"].clone()
    items[:, 7:] = 2 + (items[:, 7:] - 1) % 20
    table = model.item_table()
    before, after = model.states(table, **events), model.states(table, **events | {"items": items})
    assert torch.equal(before[:, :7], after[:, :7]) and not torch.allclose(before[:, 7:], after[:, 7:])


def test_some_steps_make_the_loss_fall_and_the_filter_learns_with_them(interest_world, events):
    losses = interest_world.losses_of_steps(events, **ON)
    assert losses[-1] < 0.8 * losses[0]
    fresh = interest_world.learner(**ON)
    fresh(interest_world.batch(events))["loss"].backward()
    assert all(value.grad.abs().sum() > 0 for value in fresh.noise_filter.parameters())
