"""
Long-term interest as an argument: who has which vector, and a recommender that is given them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np

from pipeline.features.histories import Catalogue, Histories

Encode = Callable[[Histories], np.ndarray]
"""Histories to vectors, float32 [users, dim]; zeros for a user of whom nothing is known."""


class ReadsInterest(Protocol):
    """A recommender that takes long-term interest vectors [users, dim] beside the histories."""

    name: str

    def scores(self, histories: Histories, as_of: datetime, lti: np.ndarray | None = None) -> np.ndarray: ...


@dataclass(frozen=True)
class InterestTable:
    """Vectors by user, looked up for any histories; a user without one gets zeros."""

    user_ids: np.ndarray
    """str objects [users], ascending"""
    vectors: np.ndarray
    """float32 [users, dim]"""

    def __call__(self, histories: Histories) -> np.ndarray:
        """float32 [users of `histories`, dim]."""
        found = np.zeros((histories.num_users, self.vectors.shape[1]), dtype=np.float32)
        position = {user: row for row, user in enumerate(self.user_ids)}
        rows = np.array([position.get(user, -1) for user in histories.user_ids], dtype=np.int64)
        found[rows >= 0] = self.vectors[rows[rows >= 0]]
        return found


@dataclass(frozen=True)
class WithInterest:
    """A recommender of the common protocol, made of one that reads interest and of the vectors to give it."""

    model: ReadsInterest
    interest: Encode
    name: str

    def fit(self, histories: Histories, catalogue: Catalogue, as_of: datetime) -> WithInterest:
        """The model was fitted before; nothing happens."""
        return self

    def scores(self, histories: Histories, as_of: datetime) -> np.ndarray:
        return self.model.scores(histories, as_of, lti=self.interest(histories))
