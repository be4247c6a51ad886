"""The self-supervised start: its copies are histories, its loss falls, it knows no future and can be repeated."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.features.histories import UNKNOWN
from pipeline.features.training_rows import build_training_rows
from pipeline.models.interest_evolution import InterestEvolutionModel
from pipeline.training.batches import RowBatches
from pipeline.training.epochs import TrainingRun
from pipeline.training.loop import train_interest_model
from pipeline.training.warm_up import changed, contrastive_loss, warm_up


@pytest.fixture
def batches(rounds) -> RowBatches:
    rows = build_training_rows(rounds.train, rounds.catalogue.num_items, 12, 10.0, 10.0)
    mix = np.zeros((rounds.catalogue.num_items, 0), dtype=np.float32)
    return RowBatches(rows, mix, 200, 1, 7, torch.device("cpu"))


def fresh(rounds) -> InterestEvolutionModel:
    config = rounds.config(dropout=0.0).for_data(rounds.catalogue, rounds.train.event_types, rounds.text.shape[1])
    model = InterestEvolutionModel.for_catalogue(config, rounds.catalogue, rounds.text, seed=7)
    model.trained_items[:] = True
    return model


def test_a_copy_is_a_crop_or_hides_items_or_reorders_a_stretch():
    rows, length = 300, 10
    items = (torch.arange(length) + 2).expand(rows, length).clone()
    items[:, 8:] = 0
    types, times = torch.where(items > 0, items % 3, 0), (torch.arange(length) * 10).expand(rows, length)
    new_items, new_types, new_times = changed(items, types, times, torch.Generator().manual_seed(1))
    kinds = {"cropped": 0, "hidden": 0, "reordered": 0}
    for before, after, kind in zip(items.tolist(), new_items.tolist(), new_types.tolist(), strict=True):
        size = sum(item > 0 for item in after)
        assert all(item == 0 for item in after[size:])
        if size == 5:
            kinds["cropped"] += 1
            assert after[:5] == list(range(after[0], after[0] + 5))
        elif UNKNOWN in after or after == before:
            kinds["hidden"] += 1
            assert all(item in (UNKNOWN, was) for item, was in zip(after, before, strict=True))
        else:
            kinds["reordered"] += 1
            moved = [place for place in range(8) if after[place] != before[place]]
            assert sorted(after) == sorted(before) and moved[-1] - moved[0] < 3
            assert kind[:8] == [item % 3 for item in after[:8]]                    # a type goes with its item
    assert min(kinds.values()) > 30
    assert (new_times.diff(dim=1) >= 0).all()


def test_its_loss_falls_on_histories_of_the_next_epoch_too(rounds, batches):
    model = fresh(rounds)

    def loss() -> float:
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            found = [contrastive_loss(model, batch, generator) for batch in batches.epoch(0)]
        return float(sum(one for one in found if one is not None))

    before = loss()
    assert warm_up(model, batches.epoch, steps=60, seed=7) > 0.0
    assert loss() < 0.8 * before


def test_after_it_no_state_knows_a_later_event(rounds, batches):
    model = fresh(rounds)
    warm_up(model, batches.epoch, steps=5, seed=7)
    batch = next(batches.epoch(0))
    events = {name: batch[name] for name in ("items", "types", "times")}
    other = events | {"items": events["items"].clone()}
    other["items"][:, 4:] = 2
    with torch.no_grad():
        before, after = (model.states(model.item_table(), **one) for one in (events, other))
    assert torch.equal(before[:, :4], after[:, :4]) and not torch.equal(before[:, 4:], after[:, 4:])


def test_it_is_the_same_twice_and_no_steps_change_nothing(rounds, batches):
    models = [fresh(rounds) for _ in range(3)]
    for model in models[:2]:
        warm_up(model, batches.epoch, steps=4, seed=7)
    assert warm_up(models[2], batches.epoch, steps=0, seed=7) == 0.0
    names = models[0].state_dict()
    assert all(torch.equal(names[name], models[1].state_dict()[name]) for name in names)
    assert all(torch.equal(fresh(rounds).state_dict()[name], models[2].state_dict()[name]) for name in names)


def test_the_training_that_follows_still_learns(rounds):
    run = TrainingRun(max_epochs=6, patience=9, max_seconds=1e6)
    trained = train_interest_model(*rounds.inputs, rounds.config(warm_up_steps=10), run)
    assert trained.curves[-1]["next"] < 0.7 * trained.curves[0]["next"]


def test_histories_that_are_too_short_are_no_trouble(rounds, batches):
    short = rounds.train.last(2)
    rows = build_training_rows(short, rounds.catalogue.num_items, 12, 10.0, 10.0)
    model = fresh(rounds)
    warm_up(model, replace(batches, rows=rows).epoch, steps=4, seed=7)
    names = model.state_dict()
    assert all(torch.equal(names[name], fresh(rounds).state_dict()[name]) for name in names)
