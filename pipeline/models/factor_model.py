"""
The network inside the collaborative filter: item factors, and a user folded in from the history.

Where the interest's encoder has no vectors of items (`interest_strength` wants those), interest joins through a gate.

    user    = common                                                    what everybody has in common
            + sum over scales s of d_s * pool_s(history factors)        what the user did, old and new
            + gate * W (LTI - mean LTI),                                what the user cares about over months
              gate = sigmoid(G [user, log events] + c)
    score   = <user, item factor> + bias + trend . (log popularity over 7 days, 30 days, ever)

The mean is taken off because unit vectors of one space point much the same way: what they have in common says
nothing about a person, and without this step any user's vector would help like one's own.

There is no table of users: a user is what the history says, so one never seen in training gets factors in the same
way, one with an LTI vector only is served by it, and nothing of a person is stored in the weights.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.features.histories import FIRST_ITEM, Histories
from pipeline.models.history_pool import SCALES
from pipeline.models.user_examples import TREND_DAYS


class FactorModel(nn.Module):
    """Scores of all items (or of some) for a batch of histories; see the module's docstring for the formula."""

    def __init__(self, num_items: int, factors: int, interest_dim: int, num_types: int, text_dim: int = 0) -> None:
        super().__init__()
        self.item_factors = nn.Parameter(torch.zeros(num_items, factors))
        self.history_factors = nn.Parameter(torch.zeros(num_items, factors))
        self.item_bias = nn.Parameter(torch.zeros(num_items))
        self.scale_weights = nn.Parameter(torch.full((len(SCALES), factors), 1.0 / len(SCALES)))
        self.common = nn.Parameter(torch.zeros(factors))
        self.type_weights = nn.Parameter(torch.zeros(num_types + 1))
        self.trend_weights = nn.Parameter(torch.tensor([0.2, 0.3, 0.3]))
        self.interest = nn.Linear(interest_dim, factors, bias=False)
        nn.init.zeros_(self.interest.weight)  # without fine-tuning the LTI has no say at all
        self.interest_mean = nn.Parameter(torch.zeros(interest_dim), requires_grad=False)
        self.gate = nn.Linear(factors + 1, factors)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        self.text_to_item = nn.Linear(text_dim, factors, bias=False) if text_dim else None
        self.text_to_history = nn.Linear(text_dim, factors, bias=False) if text_dim else None
        for projection in (self.text_to_item, self.text_to_history):
            if projection is not None:
                nn.init.zeros_(projection.weight)

    def tables(self, text: Tensor | None, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Item and history factors [num_items, factors] with the text part added; or those of some `items`."""
        own, history = self.item_factors, self.history_factors
        if items is not None:
            own, history = functional.embedding(items, own), functional.embedding(items, history)
            text = text if text is None else text[items]
        if text is None or self.text_to_item is None or self.text_to_history is None:
            return own, history
        return own + self.text_to_item(text), history + self.text_to_history(text)

    def users(
        self,
        history_table: Tensor,
        histories: Histories,
        lti: Tensor,
        kept: Tensor | None = None,
        interest_scale: float = 1.0,
    ) -> Tensor:
        """[users, factors].

        Args:
            history_table: [num_items, factors].
            lti: [users, interest_dim]; a row of zeros adds nothing.
            kept: [events] 0/1, which events are read in this step (input dropout); None reads all.
            interest_scale: how strongly the LTI speaks.
        """
        real = histories.items >= FIRST_ITEM
        items = torch.from_numpy(histories.items.astype(np.int64))
        types = torch.from_numpy(histories.types.astype(np.int64))
        owners = torch.from_numpy(histories.owners)
        rank = torch.from_numpy(histories.offsets[1:][histories.owners] - 1 - np.arange(histories.num_events))
        weight = functional.softplus(self.type_weights)[types] * torch.from_numpy(real.astype(np.float32))  # [events]
        if kept is not None:
            weight = weight * kept
        lengths = torch.from_numpy(np.bincount(histories.owners[real], minlength=histories.num_users))  # [users]
        users = torch.zeros(histories.num_users, history_table.shape[1]) + self.common
        offsets = torch.from_numpy(histories.offsets[:-1])
        for scale, mix in zip(SCALES, self.scale_weights, strict=True):
            decayed = weight * torch.exp(-rank / scale) if np.isfinite(scale) else weight
            mass = torch.zeros(histories.num_users).index_add(0, owners, decayed)
            pooled = functional.embedding_bag(
                items, history_table, offsets, mode="sum", per_sample_weights=decayed
            )  # [users, factors]
            users = users + mix * pooled / (mass[:, None] + 1.0).sqrt()
        amount = torch.log1p(lengths.float())[:, None]
        gate = torch.sigmoid(self.gate(torch.cat([users, amount], dim=1)))  # [users, factors]
        given = (lti != 0).any(dim=1, keepdim=True)
        return users + interest_scale * gate * self.interest((lti - self.interest_mean) * given)

    def offsets_of(self, trend: Tensor, items: Tensor | None = None) -> Tensor:
        """What an item scores for everybody: [..., num_items] from trend [..., 3, num_items]; or so of some `items`."""
        assert trend.shape[-2] == len(TREND_DAYS)
        bias = self.item_bias if items is None else functional.embedding(items, self.item_bias[:, None])[:, 0]
        return bias + (self.trend_weights[:, None] * trend).sum(dim=-2)


def softmax_loss(
    positive: Tensor, shares: Tensor, owners: Tensor, log_normaliser: Tensor, num_examples: int
) -> Tensor:
    """Mean over examples of -sum_p share_p (score_p - log sum_i exp score_i): a softmax with several right answers.

    Args:
        positive: [targets] scores of the targets.
        shares: [targets], of one example they sum to 1.
        owners: [targets] the example of each.
        log_normaliser: [examples] log-sum-exp over the catalogue, or its estimate from sampled items.
    """
    return (shares * (log_normaliser[owners] - positive)).sum() / max(num_examples, 1)
