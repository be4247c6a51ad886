"""
Compares fitted recommenders: one split, the same users, whole lists of the catalogue; the outcome is a `Comparison`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from time import perf_counter

import numpy as np

from pipeline.evaluation import metrics
from pipeline.evaluation.calibration import list_calibration
from pipeline.evaluation.cohorts import category_mix, item_cohorts, user_cohorts
from pipeline.evaluation.comparison import LIST_DEPTH, Comparison, Health
from pipeline.evaluation.split import Questions, ask
from pipeline.features.histories import EPOCH, FIRST_ITEM, Catalogue, Histories
from pipeline.models.diversity import diverse_top_k
from pipeline.models.recommender import Recommender, mask_special_items

USERS_AT_ONCE = 1024
OWN_MOMENTS = 128
"""So often is counted what is popular, where every user is asked at a moment of their own."""


def compare(
    recommenders: Mapping[str, Recommender],
    known: Histories,
    future: Histories,
    catalogue: Catalogue,
    test_start: datetime,
    *,
    reference: str | None = None,
    include_seen: bool = False,
    ks: Sequence[int] = (10, 20, 50),
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 7,
    item_vectors: np.ndarray | None = None,
    depth: int | None = None,
    diversity: float = 0.0,
    keep: Callable[[str, Histories, np.ndarray, np.ndarray], None] | None = None,
    tell: Callable[[str, datetime], None] | None = None,
) -> Comparison:
    """Ask fitted recommenders the same questions about the test window (see split.py).

    Args:
        recommenders: by the name that they get in the table, fitted on nothing later than `test_start`.
        known: events before `test_start`; what the models may read.
        future: events of the test window, of the same users in the same order.
        catalogue: the items known at `test_start`; all models share it.
        test_start: the time at which the models are asked.
        reference: the model that the others are compared with; the first one when not given.
        include_seen: whether items that the user has had may be recommended, and are asked for, again.
        item_vectors: [num_items, dim] for the diversity of lists; category shares when not given.
        diversity: how much lists are made of unlike items, as in `diverse_top_k`; 0: by score alone.
        depth: length of the lists; the largest of `ks` when not given.
        keep: is given each model's name, the asked users, their lists [users, depth] and the lists' scores.
        tell: where given, users are asked at their own moments instead of at `test_start` (see `own_moments`), and
            before each one it is called with the model's name and the moment, to tell the model what was popular.

    Raises:
        ValueError: no recommender, an unknown reference, or scores that do not fit the catalogue.
    """
    if not recommenders:
        raise ValueError("There is nothing to compare. Give at least one fitted recommender.")
    reference = reference or next(iter(recommenders))
    if reference not in recommenders:
        raise ValueError(f"The reference {reference!r} is not among the models: {', '.join(recommenders)}.")
    questions = ask(known, future, include_seen)
    counts = np.bincount(known.items, minlength=catalogue.num_items).astype(np.float64)
    groups = item_cohorts(counts)
    vectors = catalogue.category_matrix() if item_vectors is None else item_vectors
    scores_of = {
        name: _Asked(questions, catalogue, test_start, max(*ks, depth or 0), vectors, diversity)
        for name in recommenders
    }
    for name, recommender in recommenders.items():
        scores_of[name].ask(recommender, None if tell is None else partial(tell, name))
        if keep is not None:
            keep(name, questions.known, scores_of[name].lists, scores_of[name].scores)
    mix = category_mix(questions.known, catalogue)
    values = {
        name: _values(asked.lists, questions, groups, tuple(ks))
        | {
            f"novelty@{LIST_DEPTH}": metrics.novelty(asked.lists[:, :LIST_DEPTH], counts),
            f"head_share@{LIST_DEPTH}": metrics.popularity_exposure(asked.lists[:, :LIST_DEPTH], groups["head"]),
            f"overlap@{LIST_DEPTH}": metrics.overlap(
                asked.lists[:, :LIST_DEPTH], scores_of[reference].lists[:, :LIST_DEPTH]
            ),
            f"diversity@{LIST_DEPTH}": metrics.diversity(asked.lists[:, :LIST_DEPTH], vectors),
            f"miscalibration@{LIST_DEPTH}": metrics.miscalibration(
                asked.lists[:, :LIST_DEPTH], catalogue.category_matrix(), mix
            ),
        }
        for name, asked in scores_of.items()
    }
    return Comparison(
        models=tuple(recommenders),
        reference=reference,
        as_of=test_start.isoformat(),
        facts={
            "users": questions.num_users,
            "events": questions.events,
            "targets": len(questions.items),
            "outside_catalogue": questions.outside_catalogue,
            "without_history": questions.without_history,
            "items": catalogue.num_items - FIRST_ITEM,
        },
        values={
            model: {name: found.astype(np.float32) for name, found in by_name.items()}
            for model, by_name in values.items()
        },
        cohorts=user_cohorts(questions.known, catalogue, test_start),
        coverage={
            name: metrics.coverage(asked.lists[:, :LIST_DEPTH], catalogue.num_items)
            for name, asked in scores_of.items()
        },
        exposure={
            name: metrics.exposure_gini(asked.lists[:, :LIST_DEPTH], catalogue.num_items)
            for name, asked in scores_of.items()
        },
        calibration={
            name: list_calibration(recommenders[name], asked.lists, asked.scores, questions)
            for name, asked in scores_of.items()
        },
        health={name: Health(asked.broken_users, asked.constant_users) for name, asked in scores_of.items()},
        seconds={name: asked.seconds for name, asked in scores_of.items()},
        samples=samples,
        confidence=confidence,
        seed=seed,
    )


class _Asked:
    """One model's lists [users, depth], and how sound its scores were; scored in chunks so that memory is bounded."""

    def __init__(
        self, questions: Questions, catalogue: Catalogue, as_of: datetime, depth: int, vectors: np.ndarray,
        diversity: float,
    ) -> None:
        self.questions, self.catalogue, self.as_of, self.depth = questions, catalogue, as_of, depth
        self.vectors, self.diversity = vectors, diversity
        self.lists = np.full((questions.num_users, depth), -1, dtype=np.int64)
        self.scores = np.full((questions.num_users, depth), -np.inf, dtype=np.float32)
        self.broken_users = self.constant_users = 0
        self.seconds = 0.0

    def ask(self, recommender: Recommender, tell: Callable[[datetime], None] | None) -> None:
        everybody = [(self.as_of, np.arange(self.questions.num_users))]
        for moment, users in everybody if tell is None else own_moments(self.questions.known):
            if tell is not None:
                tell(moment)
            for first in range(0, len(users), USERS_AT_ONCE):
                self._ask(recommender, moment, users[first : first + USERS_AT_ONCE])

    def _ask(self, recommender: Recommender, moment: datetime, users: np.ndarray) -> None:
        known = self.questions.known.take(users)
        began = perf_counter()
        scores = recommender.scores(known, moment)
        self.seconds += perf_counter() - began
        if scores.shape != (len(users), self.catalogue.num_items):
            raise ValueError(
                f"{recommender.name} gave scores of shape {scores.shape}, expected "
                f"{(len(users), self.catalogue.num_items)}: it was fitted with another catalogue."
            )
        real = scores[:, FIRST_ITEM:]
        broken = (np.isnan(real) | np.isposinf(real)).any(axis=1)
        self.broken_users += int(broken.sum())
        self.constant_users += int((real.max(axis=1, initial=-np.inf) == real.min(axis=1, initial=np.inf)).sum())
        if broken.any():  # a model that cannot be ranked shows nothing and hits nothing
            scores = mask_special_items(np.where(broken[:, None], -np.inf, scores))
        seen = None if self.questions.include_seen else known
        self.lists[users], self.scores[users] = diverse_top_k(
            scores, self.depth, seen, self.vectors, self.diversity
        )


def own_moments(known: Histories, groups: int = OWN_MOMENTS) -> list[tuple[datetime, np.ndarray]]:
    """When each user is asked where all have a moment of their own: at the newest event that is known of them.

    Users of like moments are asked together at the earliest of these, so nobody is told of a time after theirs.

    Returns:
        (moment, positions of users, ascending), the moments ascending; every user with an event once.
    """
    users = np.flatnonzero(known.lengths > 0)
    newest = known.times[known.offsets[users + 1] - 1]
    order = np.argsort(newest, kind="stable")
    return [
        (EPOCH + timedelta(microseconds=int(newest[part[0]])), np.sort(users[part]))
        for part in np.array_split(order, min(groups, max(len(users), 1)))
        if len(part)
    ]


def _values(
    lists: np.ndarray, questions: Questions, groups: Mapping[str, np.ndarray], ks: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """Every ranking metric [users], over all items and over the items of each cohort."""
    users = np.arange(questions.num_users)
    owners = np.repeat(users, questions.num_relevant)
    width = int(max(lists.max(initial=0), questions.items.max(initial=0))) + 1
    pairs = owners * width + questions.items  # ascending: users in order, their items ascending
    found: dict[str, np.ndarray] = {}
    for group, members in {"": None, **groups}.items():
        suffix = f"/{group}" if group else ""
        asked = np.ones(len(pairs), dtype=bool) if members is None else members[questions.items]
        relevant = np.bincount(owners[asked], minlength=questions.num_users)
        future = (lists >= 0) & np.isin(users[:, None] * width + lists, pairs[asked])  # [users, depth] bool
        upcoming = lists == questions.next_item[:, None]
        one = np.ones(questions.num_users, dtype=int) if members is None else members[questions.next_item].astype(int)
        for k in ks:
            found[f"ndcg@{k}{suffix}"] = metrics.ndcg_at_k(upcoming, one, k)
            found[f"hr@{k}{suffix}"] = metrics.hit_rate_at_k(upcoming, one, k)
            found[f"mrr@{k}{suffix}"] = metrics.mrr_at_k(upcoming, one, k)
            found[f"recall@{k}{suffix}"] = metrics.recall_at_k(future, relevant, k)
            found[f"future_ndcg@{k}{suffix}"] = metrics.ndcg_at_k(future, relevant, k)
    return found
