"""
The pooled history: what a user had, summed, beside what the encoder makes of its order.

Items have a second vector, of what having one says about a user (FISM, Kabbur et al. 2013). A sum of these grows with
the history, as the certainty about a user does; a normalised state of an encoder does not. With little time to train,
much of what neighbours know is learned here first.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SCALES = (float("inf"), 30.0, 5.0)
"""Events after which an event's weight has fallen to 1/e, by pool; infinity is the plain sum."""


class HistoryPool(nn.Module):
    """Sums of the items' second vectors, over the whole past and over the recent one."""

    def __init__(self, num_items: int, dim: int):
        super().__init__()
        self.vectors = nn.Embedding(num_items, dim)
        self.mix = nn.Parameter(torch.full((len(SCALES), dim), 1.0 / len(SCALES)))

    def forward(self, items: Tensor, trained: Tensor, dropout: float, newest: Tensor | None = None) -> Tensor:
        """What has been had up to each event.

        Args:
            items: [batch, length] int64
            trained: [num_items] bool; the others have no vector yet
            dropout: share of the numbers that are left out while training
            newest: [batch] int64, the only positions that are wanted; None: all

        Returns:
            [batch, length, dim], or [batch, 1, dim]
        """
        vectors = functional.dropout(self.vectors(items) * trained[items][..., None], dropout, self.training)
        steps = torch.arange(items.shape[1], device=items.device)
        at = steps[:, None] if newest is None else newest[:, None, None]
        ago = (at - steps).float()                                      # [at, event], or [batch, 1, event]
        total = torch.zeros_like(vectors if newest is None else vectors[:, :1])
        for scale, mix in zip(SCALES, self.mix, strict=True):
            weights = torch.exp(-ago / scale).masked_fill(ago < 0, 0.0)
            total = total + mix * ((weights / (weights.sum(dim=-1, keepdim=True) + 1.0).sqrt()) @ vectors)
        return total
