"""
Whether the heads pull the shared encoder in different directions: the cosine between their gradients.

Near 1 two tasks want the same, near 0 they do not care for each other, below 0 what helps one hurts the other.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional


def gradient_cosines(model: nn.Module, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, float]:
    """`cosine_<one>_<other>` for every two losses of a batch, over the parameters of `model.encoder`.

    The model's gradients and the course of its training stay as they are; costs a pass for each loss.
    """
    shared = [value for value in model.encoder.parameters() if value.requires_grad]
    found: dict[str, Tensor] = {}
    with torch.random.fork_rng(devices=[]):
        batch = model.prepared(batch, generator.clone_state())
        start = torch.get_rng_state()
        for name in [name for name in model(batch) if name != "loss"]:
            torch.set_rng_state(start)                          # the same dropout for each, and a graph of its own
            gradients = torch.autograd.grad(model(batch)[name], shared, allow_unused=True)
            found[name] = torch.cat([
                torch.zeros_like(value).flatten() if own is None else own.flatten()
                for value, own in zip(shared, gradients, strict=True)
            ])
    return {
        f"cosine_{one}_{other}": functional.cosine_similarity(found[one], found[other], dim=0).item()
        for one, other in combinations(found, 2)
    }
