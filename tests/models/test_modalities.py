"""What an item looks or sounds like: a part of its vector where it is known, nothing where it is not."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
import torch

from pipeline.contracts import ITEM_VECTORS
from pipeline.features.histories import EPOCH, FIRST_ITEM
from pipeline.models.interest_evolution import InterestEvolutionModel
from pipeline.models.modalities import modality_vectors

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
SILENT = 4
"""The position of an item without a vector of any kind."""


@pytest.fixture(scope="module")
def world(interest_world):
    """The usual one, with pictures of all items but one, and the sound of some."""
    generator = np.random.default_rng(5)
    rows = [
        (item, modality, generator.normal(size=width).astype(np.float32).tolist(), EPOCH)
        for modality, width, every in (("image", 8, 1), ("audio", 3, 2))
        for position, item in enumerate(interest_world.catalogue.item_ids)
        if position >= FIRST_ITEM and position != SILENT and position % every == 0
    ]
    frame = pl.DataFrame(rows, schema=ITEM_VECTORS.schema, orient="row")
    return replace(interest_world, catalogue=interest_world.catalogue.with_vectors(frame, AS_OF))


def test_vectors_are_whitened_and_rows_of_zeros_where_there_is_none(world):
    found = modality_vectors(world.catalogue)
    assert {name: vectors.shape for name, vectors in found.items()} == {"audio": (22, 3), "image": (22, 8)}
    norms = np.linalg.norm(found["image"], axis=1)
    assert (norms[[0, 1, SILENT]] == 0).all() and np.allclose(np.delete(norms, [0, 1, SILENT]), 1.0, atol=1e-5)


def test_a_modality_of_one_item_alone_is_not_read(world):
    alone = {"image": np.where(np.arange(22)[:, None] == 3, world.catalogue.vectors["image"], 0.0)}
    assert modality_vectors(replace(world.catalogue, vectors=alone)) == {}


def test_an_item_without_a_vector_gets_nothing_and_the_others_something(world):
    model = world.model()
    shown = model.item_table()
    with torch.no_grad():
        for part in model.modalities.values():
            part.project.weight.zero_()
    changed = (shown - model.item_table()).abs().sum(dim=1) > 0
    assert changed.nonzero().squeeze(1).tolist() == [n for n in range(FIRST_ITEM, 22) if n != SILENT]
    some = torch.tensor([SILENT, 7, 3])
    assert torch.allclose(world.model().item_table(items=some), shown[some], atol=1e-5)


def test_a_change_of_the_future_leaves_every_earlier_state_as_it_was(world, events):
    model, items = world.model(), events["items"].clone()
    items[:, 7:] = 2 + (items[:, 7:] - 1) % 20
    table = model.item_table()
    before, after = model.states(table, **events), model.states(table, **events | {"items": items})
    assert torch.equal(before[:, :7], after[:, :7]) and not torch.allclose(before[:, 7:], after[:, 7:])


def test_some_steps_make_the_loss_fall_and_change_the_projections(world, events):
    losses = world.losses_of_steps(events)
    assert losses[-1] < 0.8 * losses[0]
    fresh = world.learner()
    fresh(world.batch(events))["loss"].backward()
    assert all(part.project.weight.grad.abs().sum() > 0 for part in fresh.modalities.values())


def test_a_saved_model_answers_bit_for_bit_and_so_does_the_one_before_it(world, tmp_path):
    model, earlier = world.model(), world.model(seed=4)
    model.keep_earlier(earlier)
    model.name_space()
    model.save_pretrained(tmp_path)
    loaded = InterestEvolutionModel.from_pretrained(tmp_path)
    assert loaded.config.modality_dims == {"audio": 3, "image": 8}
    for one, other in ((model, loaded), (earlier, loaded.before_validation)):
        assert np.array_equal(one.scores(world.histories, AS_OF), other.scores(world.histories, AS_OF))
    assert loaded.name_space() == model.name_space()


def test_they_can_be_left_out(world):
    model = world.model(reads_modalities=False)
    assert model.config.modality_dims == {} and not model.modalities
