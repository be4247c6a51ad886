"""
Checkpoints that are whole or not there: tensors as safetensors, everything else as JSON, a manifest of checksums.

A checkpoint is written beside its place and renamed into it. What a crash leaves behind has no manifest, or one that
does not fit; it is passed over and the newest whole checkpoint is found.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.faults import reach

MANIFEST = "manifest.json"
PROGRESS = "progress.json"
KEPT = 2
"""So many newest checkpoints stay."""


@dataclass(frozen=True)
class Checkpoint:
    """Groups of named tensors (`weights`, `best`, `optimiser`), and the numbers that go with them."""

    epoch: int
    tensors: dict[str, dict[str, Tensor]]
    progress: dict[str, object]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write `<folder>/epoch-000N` atomically and remove all but the newest KEPT."""
    folder.mkdir(parents=True, exist_ok=True)
    place, draft = folder / f"epoch-{checkpoint.epoch:04d}", folder / f".draft-{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    for name, tensors in checkpoint.tensors.items():
        save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()},
                  draft / f"{name}.safetensors")
    (draft / PROGRESS).write_text(json.dumps({"epoch": checkpoint.epoch, **checkpoint.progress}), encoding="utf-8")
    reach("checkpoint.before_manifest")
    digests = {path.name: _digest(path) for path in sorted(draft.iterdir())}
    (draft / MANIFEST).write_text(json.dumps(digests), encoding="utf-8")
    for path in draft.iterdir():
        _flush(path)
    shutil.rmtree(place, ignore_errors=True)
    draft.rename(place)
    _flush(folder)
    for old in _places(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return place


def load_newest(folder: Path, fingerprint: str, device: torch.device) -> Checkpoint | None:
    """The newest whole checkpoint of the run that `fingerprint` names; None where there is none."""
    for place in reversed(_places(folder)):
        checkpoint = _load(place, device)
        if checkpoint is not None and checkpoint.progress.get("fingerprint") == fingerprint:
            return checkpoint
    return None


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as flat named tensors, `<parameter>.<name>`."""
    state = optimiser.state_dict()["state"]
    return {f"{index}.{name}": value for index, values in state.items() for name, value in values.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` took."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def _load(place: Path, device: torch.device) -> Checkpoint | None:
    try:
        digests = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        if any(_digest(place / name) != digest for name, digest in digests.items()):
            return None
        progress = json.loads((place / PROGRESS).read_text(encoding="utf-8"))
        names = [name for name in digests if name.endswith(".safetensors")]
        tensors = {Path(name).stem: load_file(place / name, device=str(device)) for name in names}
    except (OSError, ValueError, AttributeError, SafetensorError):
        return None
    return Checkpoint(progress.pop("epoch"), tensors, progress)


def _places(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-[0-9]*")) if folder.is_dir() else []


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
