"""
What the heads of the interest model are trained on: losses of one batch, from encoder states to scalars.

Items are scored by the product of a query with an item's vector, plus what is popular as the head follows it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.features.histories import FIRST_ITEM
from pipeline.models.heads import InterestHeads
from pipeline.models.interest_config import InterestEvolutionConfig
from pipeline.models.losses import (
    generalised_binary_cross_entropy,
    item_cross_entropy,
    log_normaliser,
    mix_cross_entropy,
    positive_power,
    sampled_cross_entropy,
)


class ItemRows(NamedTuple):
    """Vectors of some items, and where each item's is."""

    vectors: Tensor
    """[rows, dim]"""
    place: Tensor
    """[num_items] int64; 0 where an item has none"""


def interest_losses(
    heads: InterestHeads, config: InterestEvolutionConfig, states: Tensor, table: ItemRows, shares: Tensor,
    batch: dict[str, Tensor], closed: Tensor,
) -> dict[str, Tensor]:
    """Name → scalar, the mean over the positions that have that label; of those that have a weight.

    Args:
        states: [batch, length, dim] float32
        table: the items that the batch reads
        shares: [num_items, categories], how much of an item each category is
        batch: see `training.batches`; `negatives` [drawn] and `negative_offsets` [drawn] where the loss is sampled,
            `asked` [batch, length] bool where only some positions are asked for their future, `labels` where the
            batch is a part of one that has so many labels.
        closed: [num_items] bool, items that the full softmax leaves out
    """
    asked, labels = batch.get("asked"), batch.get("labels", {})
    sampled = batch.get("negatives")
    shown = _followed_trend(heads, batch["trend"] if sampled is None else batch["trend"].index_select(1, sampled))
    if sampled is None:
        shown = {name: offsets.masked_fill(closed, -torch.inf) for name, offsets in shown.items()}
    losses = {"next": _item_loss(heads, config, "next", states, table, batch["next_items"][..., None], batch, shown)}
    if config.future_weight:
        losses["future"] = _item_loss(
            heads, config, "future", states, table, batch["future_items"], batch, shown, asked
        )
    if config.categories and config.mix_weight:
        has_mix = batch["category_mix"].sum(dim=-1) > 0
        had = nn.functional.embedding(batch["items"], shares).cumsum(dim=1)[has_mix]     # [rows, categories]
        mix = heads.category_mix(states[has_mix], had)
        losses["mix"] = _mean(mix_cross_entropy(mix, batch["category_mix"][has_mix]), labels.get("mix"))
    if len(config.event_types) > 1 and config.type_weight:
        has_next = batch["next_items"] > 0
        types = heads.event_type(states[has_next])
        losses["type"] = _mean(
            nn.functional.cross_entropy(types, batch["next_types"][has_next], reduction="none"), labels.get("next")
        )
    return losses


def _item_loss(
    heads: InterestHeads, config: InterestEvolutionConfig, head: str, states: Tensor, table: ItemRows, targets: Tensor,
    batch: dict, shown: dict[str, Tensor], asked: Tensor | None = None,
) -> Tensor:
    """states [batch, length, dim], targets [batch, length, positives] (0 = none), asked [batch, length] bool,
    shown: head → [steps, candidates], what trend adds to the items of the softmax -> scalar"""
    labelled = (targets >= FIRST_ITEM).all(dim=-1)
    labelled = labelled if asked is None else labelled & asked
    goals, query, follow = targets[labelled], *heads.asked(head, states[labelled])
    moment = batch["trend_rows"][labelled]                                              # [rows] into [steps]
    sampled = batch.get("negatives")
    candidates = table.vectors if sampled is None else table.vectors.index_select(0, table.place[sampled])
    columns = torch.arange(len(table.place), device=states.device)                      # [num_items] into candidates
    offsets = shown[head]                                                               # [steps, candidates]
    refused = [had_before(batch["items"], labelled)] if config.new_items_only else []
    if sampled is not None:
        offsets = offsets + batch["negative_offsets"]
        columns = torch.full_like(columns, -1).index_copy_(0, sampled, columns[: len(sampled)])
        refused.append(goals)
    hidden = _cells(columns[torch.cat(refused, dim=1)]) if refused else None
    own = torch.einsum("w,wrp->rp", follow, batch["trend"][:, goals, moment[:, None]])  # [rows, positives]
    wanted = nn.functional.embedding(table.place[goals], table.vectors)
    positives = torch.einsum("rd,rpd->rp", query, wanted) + own
    if config.chosen_loss == "gbce":
        drawn = batch["negative_offsets"].exp()
        power = positive_power(config.negatives, config.num_items - FIRST_ITEM, config.calibration)
        negatives = query @ candidates.T + shown[head].index_select(0, moment)
        losses = generalised_binary_cross_entropy(positives, negatives, drawn, hidden, power)
        return _mean(losses, batch.get("labels", {}).get(head))
    normaliser = log_normaliser(query, candidates, offsets, moment, hidden, config.softmax_rows)
    loss = item_cross_entropy if sampled is None else sampled_cross_entropy
    return _mean(loss(positives, normaliser), batch.get("labels", {}).get(head))


def had_before(items: Tensor, labelled: Tensor) -> Tensor:
    """items [batch, length], labelled [batch, length] bool -> [rows, length]: of each labelled position the items up
    to it, 0 for those after it"""
    rows, at = labelled.nonzero().unbind(dim=1)
    later = torch.arange(items.shape[1], device=items.device) > at[:, None]
    return items[rows].masked_fill(later, 0)


def _cells(columns: Tensor) -> tuple[Tensor, Tensor]:
    """[rows, some] int64, -1 where there is none -> rows and columns, [cells] each"""
    return (columns >= 0).nonzero()[:, 0], columns[columns >= 0]


def _followed_trend(heads: InterestHeads, trend: Tensor) -> dict[str, Tensor]:
    """[windows, items, steps] -> head → [steps, items]: what is popular, weighted as each head follows it"""
    names = ("next", "future")
    follow = torch.stack([heads.follows(name) for name in names])                     # [heads, windows]
    weighted = (follow @ trend.flatten(1)).view(len(names), *trend.shape[1:])
    return dict(zip(names, weighted.transpose(1, 2).contiguous(), strict=True))


def _mean(values: Tensor, labels: int | None = None) -> Tensor:
    """Mean of [rows], or their share of the mean over `labels` rows; 0 with a gradient where there is no row."""
    return values.sum() / max(len(values) if labels is None else labels, 1)
