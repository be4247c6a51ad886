"""The cosine between the heads' gradients: right, recorded in the curves, and without effect on what is learned."""

from dataclasses import replace

import pytest
import torch

from pipeline.training.conflict import gradient_cosines
from pipeline.training.epochs import TrainingRun
from pipeline.training.loop import train_interest_model

RUN = TrainingRun(max_epochs=1, patience=9, max_seconds=1e6)


class TwoTasks(torch.nn.Module):
    """One shared number for each direction; what a task wants of them is given."""

    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Linear(2, 1, bias=False)

    def prepared(self, batch, generator):
        return batch

    def forward(self, batch):
        return {"loss": self.encoder.weight.sum(), **{name: (self.encoder.weight @ want).sum()
                                                      for name, want in batch.items()}}


def test_the_cosine_is_that_of_the_gradients():
    model = TwoTasks()
    wants = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([-2.0, 0.0]), "c": torch.tensor([0.0, 3.0])}
    found = gradient_cosines(model, wants, torch.Generator())
    assert found == pytest.approx({"cosine_a_b": -1.0, "cosine_a_c": 0.0, "cosine_b_c": 0.0})
    assert model.encoder.weight.grad is None


def test_conflict_is_recorded_and_changes_nothing_that_is_learned(rounds):
    plain = train_interest_model(*rounds.inputs, rounds.config(), RUN)
    watched = train_interest_model(*rounds.inputs, rounds.config(), replace(RUN, conflict_every=3))
    cosines = {name: value for name, value in watched.curves[0].items() if name.startswith("cosine_")}
    assert set(cosines) == {f"cosine_{pair}" for pair in (
        "next_future", "next_mix", "next_type", "future_mix", "future_type", "mix_type"
    )}
    assert all(-1.0 <= value <= 1.0 and value != 0.0 for value in cosines.values())
    one, other = plain.model.state_dict(), watched.model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not any(name.startswith("cosine_") for name in plain.curves[0])
