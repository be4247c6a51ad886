"""
A filter for events that say little of a user: a click by mistake, a present, somebody else at the same screen.

An event whose item is unlike what the user had before is partly replaced by a token that says "noise". How unlike it
has to be, and how much is replaced, is learned with everything else.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class NoiseFilter(nn.Module):
    """Keeps of each event a share in (0, 1); at first nearly all of it. A user's first event is kept whole."""

    def __init__(self, dim: int):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(2.0))
        self.offset = nn.Parameter(torch.tensor(2.0))
        self.noise = nn.Parameter(torch.zeros(dim))

    def kept(self, vectors: Tensor) -> Tensor:
        """Item vectors of events [batch, length, dim] -> [batch, length, 1]: how much of each is kept. It depends on
        the event and on earlier ones only."""
        directions = functional.normalize(vectors, dim=-1)
        before = directions.cumsum(dim=1) - directions
        likeness = (directions * functional.normalize(before, dim=-1)).sum(dim=-1, keepdim=True)
        share = torch.sigmoid(self.slope * likeness + self.offset)
        first = torch.arange(vectors.shape[1], device=vectors.device)[:, None] == 0
        return torch.where(first, 1.0, share)

    def forward(self, tokens: Tensor, vectors: Tensor) -> Tensor:
        """tokens and the vectors of their items, [batch, length, dim] each -> [batch, length, dim]"""
        kept = self.kept(vectors)
        return kept * tokens + (1.0 - kept) * self.noise
