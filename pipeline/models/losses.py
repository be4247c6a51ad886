"""
Losses over items, each a mean over real events, and how several of them are balanced.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def item_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Softmax cross-entropy with one or several positives for each row.

    Args:
        logits: [rows, candidates]
        targets: [rows, positives] int64 columns of `logits`. Each positive counts alike.

    Returns:
        [rows]
    """
    return torch.logsumexp(logits, dim=1) - logits.gather(1, targets).mean(dim=1)


def sampled_cross_entropy(
    positives: Tensor, negatives: Tensor, targets: Tensor, sampled: Tensor, log_q: Tensor
) -> Tensor:
    """Softmax over the positive and shared negatives, corrected for how the negatives were drawn.

    Args:
        positives: [rows, positives] logits of the targets
        negatives: [rows, samples] logits of the shared negatives
        targets: [rows, positives] int64 items
        sampled: [samples] int64 items
        log_q: [num_items] log of the expected number of times that an item is among the samples

    Returns:
        [rows]. A negative that is one of the row's own positives is left out of its sum.
    """
    corrected = negatives - log_q[sampled]                                       # [rows, samples]
    for column in range(targets.shape[1]):
        corrected = corrected.masked_fill(targets[:, column, None] == sampled, -torch.inf)
    rest = torch.logsumexp(corrected, dim=1, keepdim=True)                       # [rows, 1]
    return (torch.logaddexp(rest, positives) - positives).mean(dim=1)


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

    def forward(self, losses: dict[str, Tensor]) -> Tensor:
        """Scalars in, a scalar out; a loss of weight 0 is ignored."""
        total = torch.zeros(())
        for position, (name, weight) in enumerate(self.weights.items()):
            if weight == 0.0 or name not in losses:
                continue
            loss = losses[name]
            if self.log_variance is not None:
                spread = self.log_variance[position]
                loss = torch.exp(-spread) * loss + 0.5 * spread
            total = total.to(loss.device) + weight * loss
        return total
