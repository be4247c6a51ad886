"""
Does the long-term interest itself help, or would any vector do? The same model with the wrong vectors, and with none.

    own              the user's vector
    another          the vector of another user, drawn once with the seed; nobody gets their own
    zeros            no vector
    90_days_ago      the user's vector as it was, where the caller has it (any name may be given)

A claim that long-term interest helps needs `own` above `zeros`, and `another` not above `zeros`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np

from pipeline.evaluation.comparison import Comparison, compare
from pipeline.features.histories import Catalogue, Histories


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
    interest: Callable[[Histories], np.ndarray]
    name: str

    def fit(self, histories: Histories, catalogue: Catalogue, as_of: datetime) -> WithInterest:
        """The model was fitted before; nothing happens."""
        return self

    def scores(self, histories: Histories, as_of: datetime) -> np.ndarray:
        return self.model.scores(histories, as_of, lti=self.interest(histories))


def of_another_user(vectors: np.ndarray, seed: int) -> np.ndarray:
    """[users, dim] in which every row is another user's: one random cycle through all users, so nobody keeps theirs."""
    order = np.random.default_rng(seed).permutation(len(vectors))
    mixed = np.empty_like(vectors)
    mixed[order] = vectors[np.roll(order, 1)]
    return mixed


def placebo_table(
    model: ReadsInterest,
    known: Histories,
    future: Histories,
    catalogue: Catalogue,
    test_start: datetime,
    lti: np.ndarray,
    *,
    earlier: Mapping[str, np.ndarray] | None = None,
    seed: int = 7,
    **options: object,
) -> Comparison:
    """The same model, the same users, the same questions; only the vectors differ. The reference is `zeros`.

    Args:
        lti: [users, dim] of the users of `known`, computed from events before `test_start`.
        earlier: further vectors of the same users by name, for example `{"90_days_ago": vectors}`.
        options: passed to `compare`.
    """
    arms = {
        "own": lti,
        "another": of_another_user(lti, seed),
        "zeros": np.zeros_like(lti),
        **(earlier or {}),
    }
    recommenders = {
        name: WithInterest(model, InterestTable(known.user_ids, vectors), name) for name, vectors in arms.items()
    }
    return compare(recommenders, known, future, catalogue, test_start, reference="zeros", seed=seed, **options)
