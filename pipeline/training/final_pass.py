"""
The final pass: when the epoch is chosen, the model also learns from the validation window, and from it the most.

Without it the model that is served has not seen the newest items and fashions, and everything that counts, such as
popularity or neighbours, knows them. What was chosen on the window was chosen before; what the model is worth is
measured on the test that comes after it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.features.training_rows import TrainingRows
from pipeline.training.distributed import Peers
from pipeline.training.epochs import parameter_groups
from pipeline.training.gradients import Gradients


def rows_that_reach(rows: TrainingRows, moment: int) -> TrainingRows:
    """The rows whose newest event is not before `moment`, microseconds since 1970, whole."""
    kept = rows.histories.times[rows.ends - 1] >= moment
    return replace(rows, starts=rows.starts[kept], ends=rows.ends[kept])


def final_pass(
    model: nn.Module,
    batches: Callable[[int], Iterator[dict[str, Tensor]]],
    *,
    steps: int,
    peak: float,
    weight_decay: float,
    max_grad_norm: float,
    seed: int,
    max_cpu_seconds: float | None,
    precision: str = "float32",
    peers: Peers | None = None,
) -> int:
    """Train `steps` more steps in place, the learning rate falling in a line from `peak` to 0.

    Args:
        batches: the batches of an epoch; as many epochs are read as it takes.
        max_cpu_seconds: of this process; the rate has fallen to 0 by then.

    Returns:
        The number of steps that were made.

    Raises:
        FloatingPointError: a loss is not finite.
    """
    optimiser = torch.optim.AdamW(parameter_groups(model, weight_decay), lr=peak, fused=True)
    began, step, epoch, share = time.process_time(), 0, 0, 0.0
    peers = peers or Peers()
    gradients = Gradients(model, lambda model, batch, generator: model(batch, generator), precision, peers)
    torch.manual_seed(seed + 7919 * peers.rank)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    while share < 1.0:
        before = step
        for batch in batches(epoch):
            for group in optimiser.param_groups:
                group["lr"] = peak * (1.0 - share)
            loss = gradients(batch, generator)["loss"]
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"Loss is {loss} in the final pass, step {step}: lower the learning rate ({peak})."
                )
            nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            step += 1
            used = 0.0 if max_cpu_seconds is None else (time.process_time() - began) / max(max_cpu_seconds, 1e-9)
            share = peers.told(float(np.maximum(step / max(steps, 1), used)))
            if share >= 1.0:
                break
        if step == before:
            break
        epoch += 1
    model.eval()
    return step
