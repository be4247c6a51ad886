"""
The hybrid: one list from several recommenders, mixed with weights that were fitted on the validation window.

Each recommender's scores are standardised within a user over the catalogue (mean 0, deviation 1), so that their scales
do not matter, and added with weights of at least 0. The weights minimise the softmax loss of what users did next:
a few numbers, a smooth problem, the same answer every time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
import torch

from pipeline.features.histories import FIRST_ITEM, Catalogue, Histories
from pipeline.models.recommender import Recommender, mask_special_items
from pipeline.models.user_examples import examples_between

FACTS = "hybrid.json"
FITTED_USERS = 1_000
CELLS = 8_000_000
"""Bounds the memory of a fit: users x items x recommenders."""
SHRINKAGE = 1e-3


class Hybrid:
    """Weighted union of fitted recommenders; `weights` are equal until `fit_weights` or `load`."""

    name = "hybrid"

    def __init__(self, parts: Mapping[str, Recommender], weights: Mapping[str, float] | None = None) -> None:
        """
        Args:
            parts: fitted recommenders that share one catalogue.
            weights: by the same names.

        Raises:
            ValueError: no part, or weights for other parts.
        """
        if not parts:
            raise ValueError("A hybrid needs at least one recommender.")
        self.parts = dict(parts)
        self.weights = dict(weights) if weights is not None else dict.fromkeys(self.parts, 1.0)
        if set(self.weights) != set(self.parts):
            raise ValueError(
                f"Weights are for {', '.join(sorted(self.weights))}; the parts are {', '.join(sorted(self.parts))}."
            )

    def fit(self, histories: Histories, catalogue: Catalogue, as_of: datetime) -> Hybrid:
        """Fit every part on the same histories; weights stay."""
        for part in self.parts.values():
            part.fit(histories, catalogue, as_of)
        return self

    def fit_weights(
        self, known: Histories, future: Histories, moment: datetime, include_seen: bool = False
    ) -> Hybrid:
        """Choose the weights on a window that the parts have not learned from.

        Args:
            known: events before the window; `future`: events of the window, of the same users in the same order.
            moment: the start of the window. The parts must know nothing after it: fit or `observe` them there first,
                and bring them up to date afterwards. The weights do not change by that.

        With fewer than ten users who did something new in the window the weights stay as they are.
        """
        examples = examples_between(known, future, moment, include_seen)
        if examples.num_examples < 10:
            return self
        probe = next(iter(self.parts.values())).scores(examples.context.take([0]), moment)
        limit = min(FITTED_USERS, max(10, CELLS // (probe.shape[1] * len(self.parts))))
        if examples.num_examples > limit:
            examples = examples.take(np.linspace(0, examples.num_examples - 1, limit).astype(np.int64))
        scores = np.stack([_standard(part.scores(examples.context, moment)) for part in self.parts.values()])
        if not include_seen:
            scores[:, examples.context.owners, examples.context.items] = -np.inf
        hidden = torch.from_numpy(np.isneginf(scores[0]))
        table = torch.from_numpy(np.where(np.isneginf(scores), 0.0, scores).astype(np.float32))  # [parts, users, items]
        owners = torch.from_numpy(np.repeat(np.arange(examples.num_examples), np.diff(examples.target_offsets)))
        targets, shares = torch.from_numpy(examples.targets), torch.from_numpy(examples.shares)
        raw = torch.zeros(len(self.parts), requires_grad=True)  # weights = softplus(raw)
        optimizer = torch.optim.LBFGS([raw], max_iter=60, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            weights = torch.nn.functional.softplus(raw)
            mixed = torch.einsum("p,pui->ui", weights, table).masked_fill(hidden, -torch.inf)
            log_share = mixed.log_softmax(dim=1)
            value = -(shares * log_share[owners, targets]).sum() / examples.num_examples
            value = value + SHRINKAGE * weights.square().sum()
            value.backward()
            return value

        optimizer.step(loss)
        with torch.no_grad():
            found = torch.nn.functional.softplus(raw).numpy()
        self.weights = {name: float(weight) for name, weight in zip(self.parts, found, strict=True)}
        return self

    def scores(self, histories: Histories, as_of: datetime) -> np.ndarray:
        total: np.ndarray | None = None
        for name, part in self.parts.items():
            weighted = _standard(part.scores(histories, as_of))
            weighted[:, FIRST_ITEM:] *= self.weights[name]
            total = weighted if total is None else total + weighted
        return mask_special_items(total)

    def save(self, folder: Path) -> None:
        """Write the weights into `folder`; the parts are saved by their owners."""
        folder.mkdir(parents=True, exist_ok=True)
        facts = {"format": 1, "weights": self.weights}
        (folder / FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, parts: Mapping[str, Recommender]) -> Hybrid:
        """Join fitted parts with the weights that `save` wrote. Raises ValueError when the parts are others."""
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        return cls(parts, facts["weights"])


def _standard(scores: np.ndarray) -> np.ndarray:
    """A copy with mean 0 and deviation 1 within each user over the real items; a constant row becomes zeros."""
    found = scores.astype(np.float32, copy=True)
    real = found[:, FIRST_ITEM:]
    centred = real - real.mean(axis=1, keepdims=True)
    found[:, FIRST_ITEM:] = centred / np.maximum(centred.std(axis=1, keepdims=True), 1e-9)
    return found
