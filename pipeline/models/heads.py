"""
What is asked of a user's state: the next item, everything of the next weeks, the category mix, the next event's type.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class InterestHeads(nn.Module):
    """Queries and predictions from encoder states `[..., dim]`; item scores are products with item vectors."""

    def __init__(self, dim: int, num_categories: int, num_types: int, trend_windows: int):
        super().__init__()
        self.next_query = nn.Linear(dim, dim)
        self.long_term = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))
        self.long_term_scale = nn.Parameter(torch.tensor(2.0))
        self.category_mix = nn.Linear(dim, max(num_categories, 1))
        self.event_type = nn.Linear(dim, num_types + 1)
        self.next_trend = TrendWeights(dim, trend_windows)
        self.long_term_trend = TrendWeights(dim, trend_windows)

    def long_term_interest(self, states: Tensor) -> Tensor:
        """[..., dim] -> [..., dim] of unit length: the vector that is published"""
        return functional.normalize(self.long_term(states) + states, dim=-1)

    def next_queries(self, states: Tensor) -> Tensor:
        """[..., dim] -> [..., dim]"""
        return self.next_query(states)

    def long_term_queries(self, states: Tensor) -> Tensor:
        """[..., dim] -> [..., dim]: the long-term interest, at the temperature of its softmax"""
        return self.long_term_interest(states) * self.long_term_scale.exp()


class TrendWeights(nn.Module):
    """How much a user follows what is popular now: one weight for each popularity window."""

    def __init__(self, dim: int, windows: int):
        super().__init__()
        self.common = nn.Parameter(torch.linspace(0.0, 1.0, windows))    # at first: popularity of the longest window
        self.personal = nn.Linear(dim, windows, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        """[..., dim] -> [..., windows]"""
        return self.common + self.personal(states)
