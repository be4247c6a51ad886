"""
Does the long-term interest itself help, or would any vector do? The same model with the wrong vectors, and with none.

    own              the user's vector
    another          the vector of another user, drawn once with the seed; nobody gets their own
    zeros            no vector
    90_days_ago      the user's vector as it was, where the caller has it (any name may be given)

A claim that long-term interest helps needs `own` above `zeros`, and `another` not above `zeros`.

Of a hybrid everything that the interest model knows of the user is exchanged: the vector that the filter reads, and
the scores of the interest model itself. And of what is long known, how fast does it grow stale? See `staleness_table`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from pipeline.evaluation.compare import compare
from pipeline.evaluation.comparison import Comparison
from pipeline.features.histories import Catalogue, Histories
from pipeline.models.hybrid import Hybrid
from pipeline.models.interest_vectors import Encode, InterestTable, ReadsInterest, WithInterest
from pipeline.models.recommender import Recommender

EARLIER_DAYS = 90
STALE_DAYS = (0, 7, 14, 21, 28)


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


@dataclass(frozen=True)
class Instead:
    """A recommender that is told of other histories than the ones it is asked about."""

    model: Recommender
    user_ids: np.ndarray
    """str objects [users], ascending: who may be asked about"""
    told: Histories
    """what is told of each of them, in their order; whose events these are does not matter"""
    name: str

    def fit(self, histories: Histories, catalogue: Catalogue, as_of: datetime) -> Instead:
        """The model was fitted before; nothing happens."""
        return self

    def scores(self, histories: Histories, as_of: datetime) -> np.ndarray:
        """Raises ValueError for a user of whom nothing was said."""
        places = np.searchsorted(self.user_ids, histories.user_ids)
        if (places == len(self.user_ids)).any() or (self.user_ids[places] != histories.user_ids).any():
            raise ValueError("There is a user among the asked of whom nothing was told.")
        return self.model.scores(self.told.take(places), as_of)


def hybrid_placebo(
    hybrid: Hybrid,
    model: ReadsInterest,
    encode: Encode,
    known: Histories,
    future: Histories,
    catalogue: Catalogue,
    test_start: datetime,
    *,
    parts: tuple[str, str] = ("interest_evolution", "collaborative_filter"),
    seed: int = 7,
    **options: object,
) -> Comparison:
    """The hybrid, told of the interest of others, of 90 days ago, and of nobody; everything else is the user's own.

    Args:
        hybrid: it has the interest model and the filter among its parts, called as `parts` says.
        model: the filter; `encode`: what gives it its vectors, zeros for a history without events.
        options: passed to `compare`.
    """
    order = np.random.default_rng(seed).permutation(known.num_users)
    other = np.empty_like(order)
    other[order] = np.roll(order, 1)
    told = {
        "own": known,
        "another": known.take(other),
        "zeros": known.keep(np.zeros(known.num_events, dtype=bool)),
        f"{EARLIER_DAYS}_days_ago": known.before(test_start - timedelta(days=EARLIER_DAYS)),
    }
    interest, filtered = parts
    recommenders = {}
    for name, histories in told.items():
        vectors = InterestTable(known.user_ids, encode(histories))
        recommenders[name] = Hybrid({
            **hybrid.parts,
            interest: Instead(hybrid.parts[interest], known.user_ids, histories, name),
            filtered: WithInterest(model, vectors, name),
        }, hybrid.weights, hybrid.fresh)
        recommenders[name].unseen = hybrid.unseen
    return compare(recommenders, known, future, catalogue, test_start, reference="zeros", seed=seed, **options)


def staleness_table(
    model: Recommender,
    known: Histories,
    future: Histories,
    catalogue: Catalogue,
    test_start: datetime,
    *,
    ages: Sequence[int] = STALE_DAYS,
    **options: object,
) -> Comparison:
    """The same model asked with what it knew of each user some days ago; the reference is the youngest.

    What is popular is known up to `test_start` at every age, and so is what a user has had, which is left out: only the
    user's state is old.

    Args:
        ages: in days, ascending.
        options: passed to `compare`.
    """
    recommenders = {
        f"{age}_days_old": Instead(
            model, known.user_ids, known.before(test_start - timedelta(days=age)), f"{age}_days_old"
        )
        for age in ages
    }
    return compare(recommenders, known, future, catalogue, test_start, **options)
