"""
A self-supervised start: two changed copies of a history should give vectors that are closer to each other than to those
of other users (CL4SRec, Xie et al. 2022). A copy is cropped, or has items masked, or a stretch of it reordered.

No label is read. It comes before the first epoch, and its CPU seconds count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.features.histories import UNKNOWN
from pipeline.models.interest_evolution import InterestEvolutionModel
from pipeline.training.epochs import learning_rate_at, parameter_groups

CROPPED, MASKED, REORDERED = 0.6, 0.3, 0.3
"""Shares of a history: what a crop keeps, what a mask hides, how long the stretch is that is reordered."""
TEMPERATURE = 0.2
WARM_UP_EPOCHS = 2_000_000
"""From where on its epochs are numbered, so that their draws are their own."""
SHORTEST = 3
"""Events of a history that takes part."""


def warm_up(
    model: InterestEvolutionModel, batches: Callable[[int], Iterator[dict[str, Tensor]]], *, steps: int, seed: int
) -> float:
    """Train `steps` steps in place, and return the CPU seconds that they took; 0 steps leave the model as it is.

    Args:
        batches: the batches of an epoch (see `training.batches`), of which items, types and times are read.

    Raises:
        FloatingPointError: a loss is not finite.
    """
    if steps <= 0:
        return 0.0
    config, began, made, epoch = model.config, time.process_time(), 0, 0
    optimiser = torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=config.learning_rate, fused=True)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    while made < steps:
        before = made
        for batch in batches(WARM_UP_EPOCHS + epoch):
            loss = contrastive_loss(model, batch, generator)
            if loss is None:
                continue
            if not torch.isfinite(loss):
                raise FloatingPointError(f"Loss is {loss.item()} in the warm-up, step {made}: lower the learning rate.")
            for group in optimiser.param_groups:
                group["lr"] = learning_rate_at(made, config.learning_rate, config.warmup_steps)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            made += 1
            if made == steps:
                break
        if made == before:
            break
        epoch += 1
    model.eval()
    return time.process_time() - began


def contrastive_loss(
    model: InterestEvolutionModel, batch: dict[str, Tensor], generator: torch.Generator
) -> Tensor | None:
    """A scalar: cross-entropy of finding a history's other copy among those of the batch. None where there are fewer
    than two histories of SHORTEST events."""
    rows = ((batch["items"] > 0).sum(dim=1) >= SHORTEST).nonzero().squeeze(1)
    if len(rows) < 2:
        return None
    events = tuple(batch[name][rows] for name in ("items", "types", "times"))
    table = model.item_table()
    one, other = (_vectors(model, table, *changed(*events, generator)) for _ in range(2))
    likeness = one @ other.T / TEMPERATURE                                                 # [rows, rows]
    own = torch.arange(len(rows), device=likeness.device)
    return (functional.cross_entropy(likeness, own) + functional.cross_entropy(likeness.T, own)) / 2


def changed(items: Tensor, types: Tensor, times: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A changed copy of histories, [rows, length] int64 each, padded on the right; each row gets one of the changes."""
    rows, length = items.shape
    draw = [torch.rand(rows, 1, generator=generator).to(items.device) for _ in range(3)]
    noise = [torch.rand(rows, length, generator=generator).to(items.device) for _ in range(2)]
    steps = torch.arange(length, device=items.device).expand(rows, length)
    sizes = (items > 0).sum(dim=1, keepdim=True)
    kind = (draw[0] * 3).long()                                                            # [rows, 1]

    crop = (sizes * CROPPED).ceil().long()
    start = (draw[1] * (sizes - crop + 1)).long()
    place = torch.where(kind == 0, (steps + start).clamp(max=length - 1), steps)
    stretch = (sizes * REORDERED).ceil().long().clamp(min=2)
    begin = (draw[2] * (sizes - stretch + 1)).long()
    inside = (steps >= begin) & (steps < begin + stretch)
    order = torch.where(inside, begin - 0.5 + noise[0] * stretch, steps.double()).argsort(dim=1, stable=True)
    what = torch.where(kind == 2, order, place)                                            # whose item and type

    real = steps < torch.where(kind == 0, crop, sizes)
    hidden = (kind == 1) & (noise[1] < MASKED)
    new_items = torch.where(hidden, UNKNOWN, items.gather(1, what))
    new_times = times.gather(1, place)                                                     # never out of order
    return torch.where(real, new_items, 0), torch.where(real, types.gather(1, what), 0), new_times


def _vectors(model: InterestEvolutionModel, table: Tensor, items: Tensor, types: Tensor, times: Tensor) -> Tensor:
    """[rows, dim] of unit length: the long-term interest after each history's newest event"""
    states = model.states(table, items, types, times)
    newest = (items > 0).sum(dim=1) - 1
    return model.heads.long_term_interest(states[torch.arange(len(items), device=items.device), newest])
