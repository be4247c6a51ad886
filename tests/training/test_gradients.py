"""A batch in parts has the gradients of the whole one; memory that is too small only makes the parts smaller."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.models.interest_evolution import InterestEvolutionModel
from pipeline.training.distributed import Peers
from pipeline.training.epochs import TrainingRun, fit_epochs
from pipeline.training.gradients import BY_ROW, Gradients
from pipeline.training.loop import train_interest_model

RUN = TrainingRun(max_epochs=2, patience=9, max_seconds=1e6)


def model_and_batch(rounds, monkeypatch, **changes):
    """A model in training, and the first batch that `train_interest_model` would make for it."""
    seen = []

    def stop(self, batch, generator):
        seen.append((self.model, batch))
        raise InterruptedError

    with monkeypatch.context() as patched, pytest.raises(InterruptedError):
        patched.setattr(Gradients, "__call__", stop)
        train_interest_model(*rounds.inputs, rounds.config(dropout=0.0, **changes), RUN)
    return seen[0]


def gradients_of(model: InterestEvolutionModel, batch: dict, parts: int = 1, losses_of=None, **options):
    model.zero_grad(set_to_none=True)
    gradients = Gradients(model, losses_of or (lambda m, b, g: m(b, g)), **options)
    gradients.parts = parts
    losses = gradients(batch, torch.Generator().manual_seed(0))
    return losses, {name: value.grad for name, value in model.named_parameters() if value.grad is not None}, gradients


def alike(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


@pytest.mark.parametrize("changes", [
    {}, {"learned_balance": True}, {"item_loss": "sampled", "negatives": 8}, {"item_loss": "gbce", "negatives": 8},
], ids=["full", "learned balance", "sampled", "gbce"])
def test_a_batch_in_parts_has_the_losses_and_gradients_of_the_whole_one(rounds, monkeypatch, changes):
    model, batch = model_and_batch(rounds, monkeypatch, **changes)
    losses, whole, _ = gradients_of(model, batch)
    for parts in (2, 3, 50):
        found, summed, _ = gradients_of(model, batch, parts)
        assert alike(whole, summed)
        assert all(found[name] == pytest.approx(losses[name], rel=1e-4) for name in losses)


def test_every_tensor_of_a_batch_is_known_to_go_by_row_or_not(rounds, monkeypatch):
    _, batch = model_and_batch(rounds, monkeypatch, item_loss="sampled", negatives=8)
    assert set(batch) - BY_ROW == {"trend", "negatives", "negative_offsets"}
    assert {len(batch[name]) for name in BY_ROW & set(batch)} == {len(batch["items"])}


@pytest.mark.fault("out of memory in a training step")
def test_too_little_memory_halves_the_parts_and_changes_nothing_else(rounds, monkeypatch):
    model, batch = model_and_batch(rounds, monkeypatch)
    losses, whole, _ = gradients_of(model, batch)

    def memory_of(rows: int):
        def losses_of(current, piece, generator):
            if len(piece["items"]) > rows:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return current(piece, generator)

        return losses_of

    rows = len(batch["items"])
    assert rows >= 4
    found, summed, gradients = gradients_of(model, batch, losses_of=memory_of(-(-rows // 4)))
    assert gradients.parts == 4 and alike(whole, summed)
    assert found["loss"] == pytest.approx(losses["loss"], rel=1e-4)
    with pytest.raises(torch.OutOfMemoryError):
        gradients_of(model, batch, losses_of=memory_of(0))


def test_a_run_that_ran_out_of_memory_once_learns_what_it_would_have(rounds, monkeypatch):
    config = rounds.config(dropout=0.0)
    whole = train_interest_model(*rounds.inputs, config, RUN)
    forward, failed = InterestEvolutionModel.forward, []

    def fails_once(self, batch, generator=None):
        if self.training and not failed:
            failed.append(len(batch["items"]))
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, batch, generator)

    monkeypatch.setattr(InterestEvolutionModel, "forward", fails_once)
    halved = train_interest_model(*rounds.inputs, config, RUN)
    assert failed and halved.steps == whole.steps
    assert [c["loss"] for c in halved.curves] == pytest.approx([c["loss"] for c in whole.curves], rel=1e-3)


def test_what_cannot_be_taken_in_parts_fails_as_it_did():
    def full(model, batch, generator):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        fit_epochs(torch.nn.Linear(1, 1), lambda epoch: iter([{}]), full, lambda m: {"score": 0.0}, RUN,
                   rate=lambda step: 0.1, weight_decay=0.0, max_grad_norm=1.0, fingerprint="")


def test_processes_that_share_a_batch_have_its_gradients_between_them(rounds, monkeypatch):
    model, batch = model_and_batch(rounds, monkeypatch)
    _, whole, _ = gradients_of(model, batch)
    monkeypatch.setattr(Peers, "added_up", lambda self, model, losses: losses)
    parts = [gradients_of(model, batch, peers=Peers(rank, 3))[1] for rank in range(3)]
    assert alike(whole, {name: sum(part[name] for part in parts) for name in whole})


def test_bfloat16_learns_about_the_same_with_weights_in_float32(rounds):
    plain = train_interest_model(*rounds.inputs, rounds.config(), RUN)
    short = train_interest_model(*rounds.inputs, rounds.config(), replace(RUN, precision="bfloat16"))
    assert {value.dtype for value in short.model.parameters()} == {torch.float32}
    assert short.curves[-1]["loss"] != plain.curves[-1]["loss"]
    assert short.curves[-1]["loss"] == pytest.approx(plain.curves[-1]["loss"], rel=0.05)


@pytest.mark.slow
def test_a_compiled_encoder_gives_the_same_weights_under_the_same_names(rounds):
    config, run = rounds.config(batches_an_epoch=2, final_share=0.0), replace(RUN, max_epochs=1)
    plain = train_interest_model(*rounds.inputs, config, run)
    compiled = train_interest_model(*rounds.inputs, config, replace(run, compile="eager"))
    one, other = plain.model.state_dict(), compiled.model.state_dict()
    assert one.keys() == other.keys()
    assert np.allclose(plain.model.encode(rounds.train), compiled.model.encode(rounds.train), atol=1e-5)
