"""
The training loop, for any model: epochs in seeded order, each one scored and kept as a checkpoint.

Every random number is drawn from the seed and the epoch, and every epoch ends in a checkpoint, so a run that was
stopped goes on to the same weights as one that was not. A SIGTERM within an epoch is obeyed after a checkpoint that
holds the place in it.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.observability import get_logger
from pipeline.training.checkpoint import (
    Checkpoint,
    load_newest,
    optimiser_tensors,
    restore_optimiser,
    save_checkpoint,
)
from pipeline.training.conflict import gradient_cosines
from pipeline.training.distributed import Peers
from pipeline.training.gradients import Gradients
from pipeline.training.interruption import Termination

log = get_logger(__name__)


@dataclass(frozen=True)
class TrainingRun:
    """How one training is run; what is trained is the model's configuration."""

    seed: int = 7
    device: str = "cpu"
    max_epochs: int = 40
    patience: int = 4
    max_seconds: float = 150.0
    """No second or later epoch is begun after so many seconds, earlier parts of a resumed run included."""
    max_cpu_seconds: float | None = None
    """The run ends with the batch after which this process, all its threads together, has worked for so long; time to
    score the last epoch is kept back."""
    checkpoint_dir: Path | None = None
    precision: str = "float32"
    """`bfloat16`: the encoder under autocast; weights, heads and the softmax over items stay in float32."""
    compile: str = ""
    """The backend with which torch.compile makes the encoder quicker, such as `inductor`; empty: it does not."""
    conflict_every: int = 0
    """After so many batches the cosines between the heads' gradients are taken, for the curves. 0: never."""
    peers: Peers = field(default_factory=Peers)
    """The processes that share every batch; see `distributed`."""


@dataclass(frozen=True)
class Fitted:
    """What `fit_epochs` leaves: the model holds the weights of `best_epoch`."""

    best_epoch: int
    curves: list[dict[str, float]] = field(repr=False)
    """One entry an epoch: `epoch, seconds`, the mean of every loss, and what `score` returned."""
    stopped_because: str
    """`patience`, `max_epochs`, `max_seconds` or `max_cpu_seconds`; the last two depend on the machine."""
    seconds: float
    cpu_seconds: float = 0.0
    tokens: int = 0
    """Real events that were read, over all epochs."""
    steps: int = 0


def learning_rate_at(step: int, peak: float, warmup_steps: int) -> float:
    """Rises in a line to `peak`, then falls with the inverse square root of the step."""
    warmup_steps = max(warmup_steps, 1)
    return peak * min((step + 1) / warmup_steps, math.sqrt(warmup_steps / (step + 1)))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """For the optimiser: matrices decay, single numbers and rows of them do not."""
    decayed = [value for value in model.parameters() if value.ndim > 1]
    plain = [value for value in model.parameters() if value.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def fit_epochs(
    model: nn.Module,
    batches: Callable[[int], Iterator[dict[str, Tensor]]],
    losses_of: Callable[[nn.Module, dict[str, Tensor], torch.Generator], dict[str, Tensor]],
    score: Callable[[nn.Module], dict[str, float]],
    run: TrainingRun,
    *,
    rate: Callable[[int], float],
    weight_decay: float,
    max_grad_norm: float,
    fingerprint: str,
    averaging: float = 0.0,
) -> Fitted:
    """Train until the score stops rising; resume from `run.checkpoint_dir` where it holds this very run.

    Args:
        batches: the batches of an epoch, the same ones each time it is asked.
        losses_of: a dictionary with the scalar `loss` to minimise, and its parts to record.
        score: a dictionary with the number `score` to maximise, and others to record.
        rate: the learning rate of a step, counted over all epochs.
        fingerprint: names data, model and run; a checkpoint with another one is not resumed.
        averaging: how much of the running mean of the weights a step keeps; what is scored and kept is that mean,
            which does for a run of unknown length what a falling learning rate does for a known one. 0: no mean.

    Raises:
        FloatingPointError: a loss is not finite.
    """
    device = next(model.parameters()).device
    optimiser = torch.optim.AdamW(parameter_groups(model, weight_decay), lr=rate(0), fused=True)
    progress = {"step": 0, "seconds": 0.0, "cpu_seconds": 0.0, "scoring": 0.0, "tokens": 0, "best_epoch": -1,
                "best_score": -math.inf, "curves": []}
    best = _copy(model)
    mean = RunningMean(model, averaging)
    peers, gradients = run.peers, Gradients(model, losses_of, run.precision, run.peers)
    if run.compile and hasattr(model, "encoder"):
        model.encoder.compile(backend=run.compile)
    first_epoch, within = 0, None
    found = load_newest(run.checkpoint_dir, fingerprint, device) if run.checkpoint_dir else None
    if found is not None:
        model.load_state_dict(found.tensors["weights"])
        restore_optimiser(optimiser, found.tensors["optimiser"])
        best, progress = found.tensors["best"], dict(found.progress)
        mean.load(found.tensors.get("mean", {}))
        within = progress.pop("within", None)
        first_epoch = found.epoch + (within is None)
        log.info("training resumed", epoch=first_epoch, batches=within["batches"] if within else 0)

    def keep(epoch: int, within: dict[str, object] | None = None, **more: dict[str, Tensor]) -> None:
        """A checkpoint of the end of an epoch, or of a place within it."""
        if run.checkpoint_dir and peers.is_first:
            tensors = {"weights": model.state_dict(), "best": best, "mean": mean.tensors,
                       "optimiser": optimiser_tensors(optimiser), **more}
            told = {**progress, "fingerprint": fingerprint} | ({"within": within} if within else {})
            save_checkpoint(run.checkpoint_dir, Checkpoint(epoch, tensors, told))

    stopped_because = "max_epochs"
    began, worked = time.monotonic() - progress["seconds"], time.process_time() - progress["cpu_seconds"]
    budget = math.inf if run.max_cpu_seconds is None else run.max_cpu_seconds
    with Termination() as termination:
        for epoch in range(first_epoch, run.max_epochs):
            if progress["curves"] and epoch - 1 - progress["best_epoch"] >= run.patience:
                stopped_because = "patience"
                break
            if progress["curves"] and peers.told(time.monotonic() - began > run.max_seconds):
                stopped_because = "max_seconds"
                break
            if progress["curves"] and peers.told(time.process_time() - worked + progress["scoring"] > budget):
                stopped_because = "max_cpu_seconds"
                break
            torch.manual_seed(run.seed * 100_003 + epoch + 7919 * peers.rank)
            generator = torch.Generator().manual_seed(run.seed * 100_003 + epoch)
            model.train()
            sums: dict[str, float] = {}
            cosines: dict[str, list[float]] = {}
            count = 0
            if within is not None:
                sums, cosines, count = within["sums"], within["cosines"], within["batches"]
                _restore_randomness(found.tensors["randomness"], generator, device)
                within = None
            for batch in islice(batches(epoch), count, None):
                for group in optimiser.param_groups:
                    group["lr"] = rate(progress["step"])
                if run.conflict_every and count % run.conflict_every == 0:
                    for name, value in gradient_cosines(model, batch, generator).items():
                        cosines.setdefault(name, []).append(value)
                losses = gradients(batch, generator)
                if not math.isfinite(losses["loss"]):
                    raise FloatingPointError(
                        f"Loss is {losses['loss']} at epoch {epoch}, batch {count}: lower the learning rate "
                        f"({rate(progress['step'])}) or look for extreme values."
                    )
                nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
                mean.add(progress["step"])
                progress["step"] += 1
                progress["tokens"] += int((batch["items"] > 0).sum()) if "items" in batch else 0
                count += 1
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + value
                if peers.any(termination.asked):
                    progress["cpu_seconds"] = time.process_time() - worked
                    progress["seconds"] = time.monotonic() - began
                    place = {"sums": sums, "cosines": cosines, "batches": count}
                    keep(epoch, place, randomness=_randomness(generator, device))
                    log.warning("training terminated", epoch=epoch, batches=count, kept=run.checkpoint_dir is not None)
                    termination.obey()
                if budget < math.inf and peers.told(time.process_time() - worked + progress["scoring"] > budget):
                    stopped_because = "max_cpu_seconds"
                    break
            model.eval()
            trained = time.process_time()
            with torch.no_grad(), mean.shown():
                scored = peers.told(score(model) if peers.is_first else {})
                if scored["score"] > progress["best_score"]:
                    progress["best_epoch"], progress["best_score"] = epoch, scored["score"]
                    best = _copy(model)
            progress["scoring"] = time.process_time() - trained
            progress["cpu_seconds"] = time.process_time() - worked
            progress["seconds"] = time.monotonic() - began
            means = {name: value / max(count, 1) for name, value in sums.items()}
            means |= {name: sum(values) / len(values) for name, values in cosines.items()}
            progress["curves"].append({"epoch": epoch, "seconds": progress["seconds"], **means, **scored})
            log.info("epoch trained", batches=count, **{k: round(v, 4) for k, v in progress["curves"][-1].items()})
            keep(epoch)
            if stopped_because == "max_cpu_seconds":
                break
        else:
            if progress["curves"] and run.max_epochs - 1 - progress["best_epoch"] >= run.patience:
                stopped_because = "patience"
    model.load_state_dict(best)
    model.eval()
    return Fitted(
        progress["best_epoch"], progress["curves"], stopped_because, progress["seconds"], progress["cpu_seconds"],
        progress["tokens"], progress["step"],
    )


class RunningMean:
    """The exponential mean of a model's parameters, younger at first so that the random start does not linger."""

    def __init__(self, model: nn.Module, keep: float) -> None:
        self.keep = keep
        self.parameters = dict(model.named_parameters()) if keep else {}
        self.tensors = {name: value.detach().clone() for name, value in self.parameters.items()}

    def add(self, step: int) -> None:
        """Take in the parameters after a step, counted from 0."""
        if self.tensors:
            weight = max(1.0 - self.keep, 9.0 / (10.0 + step))
            now = [value.detach() for value in self.parameters.values()]
            torch._foreach_lerp_(list(self.tensors.values()), now, weight)

    def load(self, tensors: dict[str, Tensor]) -> None:
        for name, value in self.tensors.items():
            value.copy_(tensors[name])

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Within it the model has the mean; afterwards its own parameters again."""
        own = {name: value.detach().clone() for name, value in self.parameters.items()}
        for name, value in self.parameters.items():
            value.data.copy_(self.tensors[name])
        try:
            yield
        finally:
            for name, value in self.parameters.items():
                value.data.copy_(own[name])


def fingerprint_of(*parts: object) -> str:
    """A short name for what a run depends on; arrays by their bytes, anything else by its text."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(np.ascontiguousarray(part).tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    return digest.hexdigest()[:16]


def _randomness(generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
    states = {"torch": torch.get_rng_state(), "generator": generator.get_state()}
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _restore_randomness(states: dict[str, Tensor], generator: torch.Generator, device: torch.device) -> None:
    torch.set_rng_state(states["torch"].cpu())
    generator.set_state(states["generator"].cpu())
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"].cpu(), device)


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
