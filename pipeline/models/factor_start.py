"""Where the collaborative filter begins to learn: at factors of alternating least squares, or at the last version."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import torch

from pipeline.features.histories import FIRST_ITEM, Catalogue, Histories
from pipeline.models.baselines import ImplicitALS
from pipeline.models.factor_model import FactorModel

if TYPE_CHECKING:
    from pipeline.models.collaborative_filter import CollaborativeFilter

SHARED = ("scale_weights", "common", "trend_weights")


@torch.no_grad()
def start(
    model: FactorModel, past: Histories, catalogue: Catalogue, as_of: datetime, size: float, seed: int,
    previous: CollaborativeFilter | None = None,
) -> None:
    """Set the factors, in place.

    ALS gives both tables: the history factors are the fold-in of a single item, (YᵀY + λI)⁻¹ y, scaled to the items'
    own size. Items that `previous` knew take its factors and biases; ALS is rotated into its space for the others. What
    all items share is taken over as well.

    Args:
        size: largest norm of a factor that comes from ALS.
        previous: a filter with as many factors; others are not taken from.
    """
    item, history = _als_factors(past, catalogue, as_of, size, model.item_factors.shape[1], seed)
    if previous is not None and previous.config.factors == item.shape[1]:
        known = previous.catalogue.index_of(catalogue.item_ids)
        shared = np.flatnonzero(known >= FIRST_ITEM)
        for table, name in ((item, "item_factors"), (history, "history_factors")):
            before = getattr(previous.model, name).detach().numpy().astype(np.float64)[known[shared]]
            rotation, *_ = np.linalg.lstsq(table[shared], before, rcond=None)
            table[FIRST_ITEM:] = table[FIRST_ITEM:] @ rotation
            table[shared] = before
        model.item_bias[torch.from_numpy(shared)] = previous.model.item_bias[torch.from_numpy(known[shared]).long()]
        for name in SHARED:
            getattr(model, name).copy_(getattr(previous.model, name))
        if previous.event_types == past.event_types:
            model.type_weights.copy_(previous.model.type_weights)
    model.item_factors.copy_(torch.from_numpy(item.astype(np.float32)))
    model.history_factors.copy_(torch.from_numpy(history.astype(np.float32)))


def _als_factors(
    past: Histories, catalogue: Catalogue, as_of: datetime, size: float, factors: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Item and history factors, float64 [num_items, factors]."""
    als = ImplicitALS(factors=factors, seed=seed).fit(past, catalogue, as_of)
    item = np.nan_to_num(np.asarray(als.model.item_factors, dtype=np.float64))
    item[:FIRST_ITEM] = 0.0
    gram = item.T @ item + np.eye(item.shape[1]) * max(np.trace(item.T @ item) / item.shape[1], 1e-6) * 0.05
    history = np.linalg.solve(gram, item.T).T
    return _of_size(item, size), _of_size(history, size)


def _of_size(table: np.ndarray, size: float) -> np.ndarray:
    return table / max(float(np.linalg.norm(table, axis=1).max(initial=0.0)), 1e-9) * size
