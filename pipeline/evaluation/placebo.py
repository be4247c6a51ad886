"""
Does the long-term interest itself help, or would any vector do? The same model with the wrong vectors, and with none.

    own              the user's vector
    another          the vector of another user, drawn once with the seed; nobody gets their own
    zeros            no vector
    90_days_ago      the user's vector as it was, where the caller has it (any name may be given)

A claim that long-term interest helps needs `own` above `zeros`, and `another` not above `zeros`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import numpy as np

from pipeline.evaluation.comparison import Comparison, compare
from pipeline.features.histories import Catalogue, Histories
from pipeline.models.interest_vectors import InterestTable, ReadsInterest, WithInterest


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
