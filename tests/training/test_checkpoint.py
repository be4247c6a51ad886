"""Checkpoints: whole or not there."""

import hashlib
import json

import pytest
import torch

from pipeline.training.checkpoint import (
    Checkpoint,
    load_newest,
    optimiser_tensors,
    restore_optimiser,
    save_checkpoint,
)

CPU = torch.device("cpu")


def checkpoint(epoch: int) -> Checkpoint:
    return Checkpoint(epoch, {"weights": {"a": torch.full((3,), float(epoch))}}, {"fingerprint": "f", "step": epoch})


def test_the_newest_whole_checkpoint_is_found_and_old_ones_are_removed(tmp_path):
    for epoch in range(5):
        save_checkpoint(tmp_path, checkpoint(epoch))
    found = load_newest(tmp_path, "f", CPU)
    assert found.epoch == 4 and found.progress["step"] == 4
    assert torch.equal(found.tensors["weights"]["a"], torch.full((3,), 4.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0003", "epoch-0004"]


@pytest.mark.fault("a checkpoint with a changed byte, cut or without manifest")
@pytest.mark.parametrize("damage", ["no manifest", "cut", "changed byte", "missing file", "empty"])
def test_an_incomplete_checkpoint_is_passed_over(tmp_path, damage):
    save_checkpoint(tmp_path, checkpoint(0))
    place = save_checkpoint(tmp_path, checkpoint(1))
    weights = place / "weights.safetensors"
    if damage == "no manifest":
        (place / "manifest.json").unlink()
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-4])
    elif damage == "changed byte":
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    elif damage == "missing file":
        weights.unlink()
    else:
        for path in place.iterdir():
            path.write_bytes(b"")
    assert load_newest(tmp_path, "f", CPU).epoch == 0


@pytest.mark.fault("a pickle in place of a checkpoint's tensors")
def test_a_pickle_is_passed_over_though_the_manifest_names_it(tmp_path):
    save_checkpoint(tmp_path, checkpoint(0))
    place = save_checkpoint(tmp_path, checkpoint(1))
    torch.save({"a": torch.full((3,), 1.0)}, place / "weights.safetensors")
    digests = json.loads((place / "manifest.json").read_text())
    digests["weights.safetensors"] = hashlib.sha256((place / "weights.safetensors").read_bytes()).hexdigest()
    (place / "manifest.json").write_text(json.dumps(digests))
    assert load_newest(tmp_path, "f", CPU).epoch == 0


def test_what_a_crash_left_in_draft_is_neither_found_nor_in_the_way(tmp_path):
    (tmp_path / ".draft-1").mkdir()
    (tmp_path / ".draft-1" / "weights.safetensors").write_bytes(b"half")
    assert load_newest(tmp_path, "f", CPU) is None
    save_checkpoint(tmp_path, checkpoint(0))
    assert load_newest(tmp_path, "f", CPU).epoch == 0


def test_a_checkpoint_of_another_run_is_not_taken(tmp_path):
    save_checkpoint(tmp_path, checkpoint(0))
    assert load_newest(tmp_path, "another", CPU) is None
    assert load_newest(tmp_path / "nowhere", "f", CPU) is None


def test_an_optimiser_goes_on_as_if_it_had_not_stopped():
    def run(stop: bool) -> torch.Tensor:
        weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        optimiser = torch.optim.AdamW([weight], lr=0.1)
        for step in range(6):
            if stop and step == 3:
                kept = {name: value.clone() for name, value in optimiser_tensors(optimiser).items()}
                optimiser = torch.optim.AdamW([weight], lr=0.1)
                restore_optimiser(optimiser, kept)
            (weight**2).sum().backward()
            optimiser.step()
            optimiser.zero_grad()
        return weight.detach()

    assert torch.equal(run(stop=False), run(stop=True))
