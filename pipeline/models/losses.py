"""
Losses over items, each a mean over real events, and how several of them are balanced.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


class _LogNormaliser(torch.autograd.Function):
    """See `log_normaliser`. Written out because [rows, candidates] is what a training step spends its time on: each
    pass over it is done in place, once."""

    @staticmethod
    def forward(ctx, queries, candidates, offsets, groups, hidden):
        shares = offsets.index_select(0, groups).addmm_(queries, candidates.T)       # [rows, candidates]
        if hidden is not None:
            shares[hidden[0], hidden[1]] = -torch.inf
        peak = shares.amax(dim=1, keepdim=True).clamp_(min=torch.finfo(shares.dtype).min)
        total = shares.sub_(peak).exp_().sum(dim=1, keepdim=True)
        ctx.save_for_backward(queries, candidates, groups, total)
        ctx.shares, ctx.num_groups = shares, len(offsets)
        return (total.log() + peak).squeeze(1)

    @staticmethod
    def backward(ctx, gradient):
        queries, candidates, groups, total = ctx.saved_tensors
        shares = ctx.shares.mul_(gradient[:, None] / total.clamp(min=torch.finfo(total.dtype).tiny))
        ctx.shares = None
        by_group = shares.new_zeros(ctx.num_groups, shares.shape[1]).index_add_(0, groups, shares)
        return shares @ candidates, shares.T @ queries, by_group, None, None


def log_normaliser(
    queries: Tensor, candidates: Tensor, offsets: Tensor, groups: Tensor, hidden: tuple[Tensor, Tensor] | None = None,
    rows_at_once: int = 0,
) -> Tensor:
    """Log-sum-exp over candidates of `<query, candidate> + offset`: what a softmax divides by. One backward pass only.

    Args:
        queries: [rows, dim]
        candidates: [candidates, dim]
        offsets: [groups, candidates], what a candidate scores for every row of a group
        groups: [rows] int64, the group of each row
        hidden: rows and columns, int64 [pairs] each, that are left out of the sum
        rows_at_once: with a number, [rows, candidates] is never whole in memory: so many rows are taken at a time, and
            once more on the way back. 0: all at once.

    Returns:
        [rows]; very low, or -inf, where nothing is left.
    """
    if not 0 < rows_at_once < len(queries):
        return _LogNormaliser.apply(queries, candidates, offsets, groups, hidden)
    parts = []
    for first in range(0, len(queries), rows_at_once):
        own = slice(first, first + rows_at_once)
        left_out = hidden
        if hidden is not None:
            inside = (hidden[0] >= first) & (hidden[0] < first + rows_at_once)
            left_out = hidden[0][inside] - first, hidden[1][inside]
        parts.append(checkpoint(
            _LogNormaliser.apply, queries[own], candidates, offsets, groups[own], left_out, use_reentrant=False
        ))
    return torch.cat(parts)


def item_cross_entropy(positives: Tensor, normaliser: Tensor) -> Tensor:
    """Softmax cross-entropy with one or several positives for each row, each counting alike.

    Args:
        positives: [rows, positives] logits of the targets
        normaliser: [rows] log-sum-exp over all candidates, the targets among them

    Returns:
        [rows]
    """
    return normaliser - positives.mean(dim=1)


def sampled_cross_entropy(positives: Tensor, rest: Tensor) -> Tensor:
    """Softmax over each positive and shared negatives.

    Args:
        positives: [rows, positives] logits of the targets
        rest: [rows] log-sum-exp over the negatives, corrected for how they were drawn, the row's own positives left
            out

    Returns:
        [rows]
    """
    return (torch.logaddexp(rest[:, None], positives) - positives).mean(dim=1)


def generalised_binary_cross_entropy(
    positives: Tensor, negatives: Tensor, times: Tensor, hidden: tuple[Tensor, Tensor], power: float
) -> Tensor:
    """gBCE (Petrov and Macdonald 2023): a yes for each positive, a no for each negative; without their 1 / (k + 1).

    Args:
        positives: [rows, positives] logits of the targets
        negatives: [rows, candidates] logits of uniformly drawn items
        times: [candidates], how often each was drawn
        hidden: rows and columns, int64 [pairs] each, that are a row's own positives and no negatives
        power: see `positive_power`

    Returns:
        [rows]
    """
    shown = torch.ones_like(negatives).index_put(hidden, negatives.new_zeros(()))
    refused = (functional.softplus(negatives) * shown) @ times
    return refused + power * functional.softplus(-positives).mean(dim=1)


def positive_power(drawn: int, items: int, calibration: float) -> float:
    """How little a positive counts in gBCE, so that a drawn share of the items does not make it overconfident.

    `share * (calibration * (1 - 1 / share) + 1 / share)` with `share = drawn / (items - 1)`: 1 is plain binary
    cross-entropy (calibration 0), the share itself is full calibration (1).
    """
    share = min(drawn / max(items - 1, 1), 1.0)
    return share * (calibration * (1.0 - 1.0 / share) + 1.0 / share)


def mix_cross_entropy(logits: Tensor, mix: Tensor) -> Tensor:
    """[rows, categories] twice -> [rows]: cross-entropy to a distribution, less its own entropy (so 0 is perfect)."""
    log_shares = functional.log_softmax(logits, dim=1)
    return functional.kl_div(log_shares, mix, reduction="none").sum(dim=1)


class LossBalance(nn.Module):
    """One number from several losses: fixed weights, or weights learned from uncertainty (Kendall et al. 2018)."""

    def __init__(self, weights: dict[str, float], learned: bool):
        super().__init__()
        self.weights = weights
        self.log_variance = nn.Parameter(torch.zeros(len(weights))) if learned else None    # in the order of `weights`

    def forward(self, losses: dict[str, Tensor], share: float = 1.0) -> Tensor:
        """Scalars in, a scalar out; a loss of weight 0 is ignored. `share`: that of a batch which these are of."""
        total = torch.zeros(())
        for position, (name, weight) in enumerate(self.weights.items()):
            if weight == 0.0 or name not in losses:
                continue
            loss = losses[name]
            if self.log_variance is not None:
                spread = self.log_variance[position]
                loss = torch.exp(-spread) * loss + 0.5 * share * spread
            total = total.to(loss.device) + weight * loss
        return total
