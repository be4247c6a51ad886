"""The collaborative filter's loss: softmax over the catalogue, or over sampled negatives with logQ when it is large."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pipeline.features.histories import FIRST_ITEM
from pipeline.models.factor_model import FactorModel, softmax_loss
from pipeline.models.user_examples import Examples


@dataclass(frozen=True)
class Batch:
    """Some examples, and what is known beside their histories."""

    examples: Examples
    interest: Tensor
    """float32 [examples, interest_dim]"""
    trend: Tensor
    """float32 [moments, 3, num_items]"""
    trend_rows: Tensor
    """int64 [examples] into `trend`"""
    kept: Tensor | None = None
    """float32 [events] 0/1 input dropout; None reads all"""
    interest_scale: float = 1.0


def full_loss(model: FactorModel, text: Tensor | None, batch: Batch, closed: Tensor, include_seen: bool) -> Tensor:
    """Scalar, over the whole catalogue but for the items `closed` [num_items] bool."""
    examples, owners = batch.examples, torch.from_numpy(batch.examples.target_owners)
    item_table, history_table = model.tables(text)
    users = model.users(history_table, examples.context, batch.interest, batch.kept, batch.interest_scale)
    scores = users @ item_table.T + model.offsets_of(batch.trend)[batch.trend_rows]     # [examples, num_items]
    positive = scores[owners, torch.from_numpy(examples.targets)]
    hidden = closed.repeat(examples.num_examples, 1)
    if not include_seen:
        _hide_seen(hidden, examples, examples.context.items)
    normaliser = scores.masked_fill(hidden, -torch.inf).logsumexp(dim=1)
    return softmax_loss(positive, torch.from_numpy(examples.shares), owners, normaliser, examples.num_examples)


def sampled_loss(
    model: FactorModel, text: Tensor | None, batch: Batch, negatives: np.ndarray, log_q: Tensor, include_seen: bool
) -> Tensor:
    """Scalar, over the targets and `negatives` [drawn] int64, each of which stands for exp(-log_q) [drawn] items.

    Only the factors of items that occur are made, so the cost follows the batch and not the catalogue.
    """
    examples, owners = batch.examples, torch.from_numpy(batch.examples.target_owners)
    special = np.arange(FIRST_ITEM)
    needed = np.unique(np.concatenate([special, examples.context.items, examples.targets, negatives]))
    read, goals, drawn = (np.searchsorted(needed, it) for it in (examples.context.items, examples.targets, negatives))
    items, goals, drawn = torch.from_numpy(needed), torch.from_numpy(goals), torch.from_numpy(drawn)
    item_table, history_table = model.tables(text, items)
    context = replace(examples.context, items=read.astype(np.int32))
    users = model.users(history_table, context, batch.interest, batch.kept, batch.interest_scale)
    offsets = model.offsets_of(batch.trend[:, :, items], items)                          # [moments, needed]
    positive = (users[owners] * item_table[goals]).sum(dim=1) + offsets[batch.trend_rows[owners], goals]
    scores = users @ item_table[drawn].T + offsets[:, drawn][batch.trend_rows] - log_q   # [examples, drawn]
    # A negative that is one of the example's targets, or was seen, is not one.
    hidden = torch.zeros(examples.num_examples, len(needed), dtype=torch.bool)
    hidden[owners, goals] = True
    if not include_seen:
        _hide_seen(hidden, examples, read)
    among = scores.masked_fill(hidden[:, drawn], -torch.inf).logsumexp(dim=1)            # [examples]
    # The targets' own mass is known exactly and joins the estimate of the others'.
    peak = torch.full_like(among, -torch.inf).scatter_reduce(0, owners, positive.detach(), "amax")
    own = torch.zeros_like(among).index_add(0, owners, torch.exp(positive - peak[owners])).log() + peak
    normaliser = torch.logaddexp(among, own)
    return softmax_loss(positive, torch.from_numpy(examples.shares), owners, normaliser, examples.num_examples)


def _hide_seen(hidden: Tensor, examples: Examples, columns: np.ndarray) -> None:
    """hidden [examples, items] bool; columns [events]: where each item of the contexts stands."""
    hidden[torch.from_numpy(examples.context.owners), torch.from_numpy(columns.astype(np.int64))] = True
