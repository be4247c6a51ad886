"""
What is asked of a user's state: the next item, everything of the next weeks, the category mix, the next event's type.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class InterestHeads(nn.Module):
    """Queries and predictions from encoder states `[..., dim]`; item scores are products with item vectors."""

    def __init__(self, dim: int, num_categories: int, num_types: int, trend_windows: int,
                 reads_trend: bool = True):
        super().__init__()
        self.next_query = nn.Linear(dim, dim)
        self.long_term = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))
        self.long_term_scale = nn.Parameter(torch.tensor(2.0))
        self.mix_change = nn.Linear(dim, max(num_categories, 1))
        self.mix_memory = nn.Parameter(torch.tensor(1.0))
        self.event_type = nn.Linear(dim, num_types + 1)
        # How much each head follows what is popular now; at first as popularity of the longest window alone would.
        start = torch.linspace(0.0, float(reads_trend), trend_windows)
        self.next_trend = nn.Parameter(start.clone(), requires_grad=reads_trend)
        self.long_term_trend = nn.Parameter(start.clone(), requires_grad=reads_trend)

    def long_term_interest(self, states: Tensor) -> Tensor:
        """[..., dim] -> [..., dim] of unit length: the vector that is published"""
        return functional.normalize(self.long_term(states) + states, dim=-1)

    def next_queries(self, states: Tensor) -> Tensor:
        """[..., dim] -> [..., dim]"""
        return self.next_query(states)

    def long_term_queries(self, states: Tensor) -> Tensor:
        """[..., dim] -> [..., dim]: the long-term interest, at the temperature of its softmax"""
        return self.long_term_interest(states) * self.long_term_scale.exp()

    def category_mix(self, states: Tensor, counts: Tensor) -> Tensor:
        """[..., dim] and [..., categories], what was had of each -> logits [..., categories]: the mix of the past, and
        how it changes. One event's worth is spread over all categories, so that none is impossible."""
        past = (counts + 1.0 / counts.shape[-1]) / (counts.sum(dim=-1, keepdim=True) + 1.0)
        return self.mix_change(states) + self.mix_memory * past.log()

    def asked(self, head: str, states: Tensor) -> tuple[Tensor, Tensor]:
        """[rows, dim] -> queries [rows, dim] and trend weights [windows] of the head `next` or `future`"""
        queries = self.next_queries if head == "next" else self.long_term_queries
        return queries(states), self.follows(head)

    def follows(self, head: str) -> Tensor:
        """[windows]: how much the head `next` or `future` follows what is popular"""
        return self.next_trend if head == "next" else self.long_term_trend
