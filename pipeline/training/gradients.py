"""
The gradients of one batch, whole or in parts: parts for memory that is too small, and for processes that share a batch.

However many parts there are, what adds up is the gradient of the whole batch: each part's losses are divided by the
labels of all of it, and what is drawn by chance (which items are dropped, which positions are asked) is drawn before.
Only dropout inside the model is drawn part by part.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pipeline.observability import get_logger
from pipeline.training.distributed import Peers

BY_ROW = frozenset({
    "items", "types", "times", "next_items", "next_types", "future_items", "category_mix", "trend_rows", "asked",
})
"""What a batch holds row by row; anything else belongs to all rows."""

log = get_logger(__name__)

Losses = Callable[[nn.Module, dict[str, Tensor], torch.Generator], dict[str, Tensor]]


class Gradients:
    """Leaves the gradients of a batch in the model's parameters.

    Args:
        losses_of: a dictionary with the scalar `loss`, and its parts.
        precision: `bfloat16` computes under autocast, with weights and softmax in float32; `float32` does not.
        peers: the processes that share every batch.
    """

    def __init__(self, model: nn.Module, losses_of: Losses, precision: str = "float32", peers: Peers | None = None):
        self.model, self.losses_of, self.peers = model, losses_of, peers or Peers()
        self.device = next(model.parameters()).device
        self.precision = precision
        self.parts = 1
        """Of a process's share of a batch; doubled when memory is too small, and kept."""

    def __call__(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, float]:
        """The losses of the whole batch.

        Raises:
            torch.OutOfMemoryError: a part of one row is still too much.
        """
        if hasattr(self.model, "prepared"):
            batch = self.model.prepared(batch, generator)
        while (found := self._tried(batch, generator)) is None:
            self.model.zero_grad(set_to_none=True)
            self.parts *= 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            log.warning("out of memory", action="batches are taken in parts", parts=self.parts)
        return self.peers.added_up(self.model, found)

    def _tried(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, float] | None:
        """None where memory did not suffice, and smaller parts may do."""
        try:
            return self._backward(batch, generator)
        except torch.OutOfMemoryError:
            if len(batch.get("items", ())) <= self.parts * self.peers.count:
                raise
        return None

    def _backward(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, float]:
        pieces = self.parts * self.peers.count
        if pieces > 1:
            batch = batch | self.model.counted(batch) | {"share": 1.0 / min(pieces, len(batch["items"]))}
        sums: dict[str, float] = {}
        for part in range(self.parts):
            first = self.peers.rank + part * self.peers.count
            piece = batch if pieces == 1 else {
                name: value[first::pieces] if name in BY_ROW else value for name, value in batch.items()
            }
            if pieces > 1 and len(piece["items"]) == 0:
                continue
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
                losses = self.losses_of(self.model, piece, generator)
            losses["loss"].backward()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.item()
        return sums
