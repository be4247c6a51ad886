"""
The hybrid: one list from several recommenders, mixed with weights that were fitted on the validation window.

Each recommender's scores are standardised within a user over the catalogue (mean 0, deviation 1), so that their scales
do not matter, and added with weights of at least 0. An item that nobody has had yet is scored by fewer signs than the
others; what is added to it, a constant and further weights of the parts, is fitted in the same way. A few numbers, a
smooth problem, the same answer every time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from pipeline.features.histories import EPOCH, FIRST_ITEM, Catalogue, Histories
from pipeline.models.hybrid_fit import choose_shift, draw_candidates, fit_weights
from pipeline.models.platt import PlattScale, calibrate_lists
from pipeline.models.recommender import USERS_AT_ONCE, Recommender, mask_special_items
from pipeline.models.user_examples import Examples, evenly, examples_between

FACTS = "hybrid.json"
FITTED_USERS = 1_500
FEWEST_USERS = 10
CONSTANT = "constant"


class Hybrid:
    """Weighted union of fitted recommenders; `weights` are equal until `fit_weights` or `load`."""

    name = "hybrid"

    def __init__(
        self,
        parts: Mapping[str, Recommender],
        weights: Mapping[str, float] | None = None,
        fresh: Mapping[str, float] | None = None,
    ) -> None:
        """
        Args:
            parts: fitted recommenders that share one catalogue.
            weights: by the same names.
            fresh: what is added for items that nobody has had: `constant`, and weights by the names of parts.

        Raises:
            ValueError: no part, or weights for other parts.
        """
        if not parts:
            raise ValueError("A hybrid needs at least one recommender.")
        self.parts = dict(parts)
        self.weights = dict(weights) if weights is not None else dict.fromkeys(self.parts, 1.0)
        self.fresh = dict(fresh or {})
        if set(self.weights) != set(self.parts) or not set(self.fresh) <= {CONSTANT, *self.parts}:
            raise ValueError(
                f"Weights are for {', '.join(sorted({*self.weights, *self.fresh} - {CONSTANT}))}; "
                f"the parts are {', '.join(sorted(self.parts))}."
            )
        self.unseen: np.ndarray | None = None
        """[num_items] bool: nobody has had the item, as `observe` counted it; None: not known, no item is"""
        self.calibration: PlattScale | None = None
        """from a score to how probable it is that the user takes the item in as many days as the weights' window had"""

    def fit(self, histories: Histories, catalogue: Catalogue, as_of: datetime) -> Hybrid:
        """Fit every part on the same histories; weights stay."""
        for part in self.parts.values():
            part.fit(histories, catalogue, as_of)
        return self.observe(histories, catalogue.num_items)

    def observe(self, histories: Histories, num_items: int) -> Hybrid:
        """Count which items nobody has had, from everybody's events up to now."""
        self.unseen = np.bincount(histories.items, minlength=num_items) == 0
        return self

    def fit_weights(
        self, known: Histories, future: Histories, moment: datetime | None, include_seen: bool = False,
        observe: Callable[[datetime], object] | None = None,
    ) -> Hybrid:
        """Choose the weights on a window that the parts have not learned from.

        Args:
            known: events before the window; `future`: events of the window, of the same users in the same order.
            moment: the start of the window. The parts must know nothing after it: fit or `observe` them there first,
                and bring them up to date afterwards. The weights do not change by that. None: each user is asked at
                their own newest event (leave one out).
            observe: called before users are asked, with a moment that is not after theirs, so that the parts can be
                told what was popular then.

        With fewer than ten users who did something new in the window the weights stay as they are.
        """
        examples = examples_between(known, future, moment, include_seen)
        if examples.num_examples < FEWEST_USERS:
            return self
        examples = examples.take(evenly(examples.num_examples, FITTED_USERS))
        examples = examples.take(np.argsort(examples.moments, kind="stable"))

        def asked(some: Examples) -> tuple[Histories, datetime]:
            earliest = EPOCH + timedelta(microseconds=int(some.moments.min()))
            if observe is not None:
                observe(earliest)
            return some.context, earliest

        def score(some: Examples) -> np.ndarray:
            question = asked(some)
            return np.stack([_standard(part.scores(*question)) for part in self.parts.values()])

        def mixed(some: Examples) -> np.ndarray:
            return self.scores(*asked(some))

        num_items = next(iter(self.parts.values())).scores(*asked(examples.take(np.arange(1)))).shape[1]
        self.observe(known, num_items)
        weights, fresh = fit_weights(draw_candidates(examples, score, self.unseen, include_seen))
        self.weights = {name: float(weight) for name, weight in zip(self.parts, weights, strict=True)}
        self.fresh = {name: float(weight) for name, weight in zip((CONSTANT, *self.parts), fresh, strict=True)}
        self.fresh[CONSTANT] += choose_shift(examples, mixed, self.unseen, include_seen)
        self.calibration = calibrate_lists(examples, mixed, include_seen)
        return self

    def scores(self, histories: Histories, as_of: datetime) -> np.ndarray:
        total: np.ndarray | None = None
        unseen = np.zeros(0, dtype=np.int64) if self.unseen is None else np.flatnonzero(self.unseen)
        unseen = unseen[unseen >= FIRST_ITEM]
        for name, part in self.parts.items():
            found = part.scores(histories, as_of)
            if total is None:
                total = np.zeros_like(found)
            for first in range(0, len(found), USERS_AT_ONCE):
                own = slice(first, first + USERS_AT_ONCE)
                add_standardised(total[own], found[own], self.weights[name], unseen, self.fresh.get(name, 0.0))
        total[:, unseen] += self.fresh.get(CONSTANT, 0.0)
        return mask_special_items(total)

    def save(self, folder: Path) -> None:
        """Write the weights into `folder`; the parts, and what was observed, are saved by their owners."""
        folder.mkdir(parents=True, exist_ok=True)
        calibration = self.calibration and vars(self.calibration)
        facts = {"format": 2, "weights": self.weights, "fresh": self.fresh, "calibration": calibration}
        (folder / FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, parts: Mapping[str, Recommender]) -> Hybrid:
        """Join fitted parts with the weights that `save` wrote; a part that there was not yet has none.

        Raises ValueError when a weight is for a part that is not given.
        """
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        loaded = cls(parts, dict.fromkeys(parts, 0.0) | facts["weights"], facts["fresh"])
        if found := facts.get("calibration"):
            loaded.calibration = PlattScale(**found)
        return loaded


def _standard(scores: np.ndarray) -> np.ndarray:
    """Mean 0 and deviation 1 within each user over the real items; a constant row becomes zeros."""
    found = np.zeros_like(scores)
    add_standardised(found, scores, 1.0, np.zeros(0, dtype=np.int64), 0.0)
    found[:, :FIRST_ITEM] = -np.inf
    return found


def add_standardised(
    total: np.ndarray, scores: np.ndarray, weight: float, unseen: np.ndarray, more: float
) -> None:
    """Add to `total` a weight times the scores, standardised; for the items `unseen` a weight that is `more` larger."""
    real, goal = scores[:, FIRST_ITEM:], total[:, FIRST_ITEM:]
    mean = real.mean(axis=1, keepdims=True)                                                  # [users, 1]
    centred = real - mean
    deviation = np.sqrt(np.einsum("ui,ui->u", centred, centred) / max(real.shape[1], 1))[:, None]
    scale = 1.0 / np.maximum(deviation, np.float32(1e-9))
    scale[deviation <= 1e-6 * np.abs(mean)] = 0.0  # constant, but for rounding
    if more and len(unseen):
        places = unseen - FIRST_ITEM
        goal[:, places] += centred[:, places] * (np.float32(more) * scale)
    if weight:
        centred *= np.float32(weight) * scale
        goal += centred
