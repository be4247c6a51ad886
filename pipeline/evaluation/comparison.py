"""
Several fitted recommenders, one split, the same users: what each is worth, how sure that is, and for whom.

Names of metrics: `ndcg@k`, `hr@k`, `mrr@k` ask for the user's next item; `recall@k` and `future_ndcg@k` for all items
of the test window (see split.py). `novelty@k`, `diversity@k`, `miscalibration@k` and `head_share@k` describe the lists;
`overlap@k` is what a list shares with the reference's.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from time import perf_counter

import numpy as np

from pipeline.evaluation import metrics
from pipeline.evaluation.bootstrap import Interval, interval_of, paired_difference, resampled_means
from pipeline.evaluation.calibration import CALIBRATED_DEPTH, list_calibration
from pipeline.evaluation.cohorts import GROUPS, ITEM_COHORTS, category_mix, item_cohorts, user_cohorts
from pipeline.evaluation.fairness import group_gap
from pipeline.evaluation.split import Questions, ask
from pipeline.features.histories import EPOCH, FIRST_ITEM, Catalogue, Histories
from pipeline.models.diversity import diverse_top_k
from pipeline.models.recommender import Recommender, mask_special_items

SHOWN = ("ndcg@10", "hr@10", "mrr@10", "recall@10", "recall@50")
FAIR = ("ndcg@10", "recall@50")
LIST_DEPTH = 10
"""Lists are described (novelty, diversity, calibration, coverage) at this depth."""
USERS_AT_ONCE = 1024
OWN_MOMENTS = 24
"""So often is counted what is popular, where every user is asked at a moment of their own."""
FORMAT = 1


@dataclass(frozen=True)
class Health:
    """Whether a model's scores can be ranked at all."""

    broken_users: int = 0
    """users with a NaN or +inf among their scores"""
    constant_users: int = 0
    """users for whom every item has the same score"""


@dataclass(frozen=True)
class Comparison:
    """The outcome. Values are [users] float32, in one order of users for all models; NaN: no value for that user."""

    models: tuple[str, ...]
    reference: str
    as_of: str
    facts: dict[str, int]
    """users, events, targets, outside_catalogue, without_history, items"""
    values: dict[str, dict[str, np.ndarray]] = field(repr=False)
    """model → metric → values; `recall@50/tail` is the metric among the items of that cohort"""
    cohorts: dict[str, np.ndarray] = field(repr=False)
    """user cohort → [users] bool"""
    coverage: dict[str, float]
    health: dict[str, Health]
    seconds: dict[str, float]
    """model → seconds spent on scoring"""
    samples: int
    confidence: float
    seed: int
    exposure: dict[str, float] = field(default_factory=dict)
    """model → Gini coefficient of how often each item is shown"""
    calibration: dict[str, float] = field(default_factory=dict)
    """model → expected calibration error of its lists; NaN for a model whose scores are no probabilities"""

    def of(self, model: str, metric: str, cohort: str = "all") -> np.ndarray:
        """[users] values of a metric, NaN outside the cohort. Raises ValueError for an unknown name."""
        if model not in self.values:
            raise ValueError(f"No model {model!r} in this comparison. There are: {', '.join(self.models)}.")
        name = f"{metric}/{cohort}" if cohort in ITEM_COHORTS else metric
        if name not in self.values[model]:
            raise ValueError(f"No metric {name!r}. There are: {', '.join(sorted(self.values[model]))}.")
        if cohort in ITEM_COHORTS:
            return self.values[model][name]
        if cohort not in self.cohorts:
            raise ValueError(f"No cohort {cohort!r}. There are: {', '.join((*self.cohorts, *ITEM_COHORTS))}.")
        return np.where(self.cohorts[cohort], self.values[model][name], np.nan)

    def interval(self, model: str, metric: str, cohort: str = "all") -> Interval:
        """The mean over the cohort with its bootstrap interval."""
        values = self.of(model, metric, cohort)
        means = resampled_means(values[np.isfinite(values)][:, None], self.samples, self.seed)
        return interval_of(values, means[:, 0], self.confidence)

    def difference(
        self, model: str, reference: str | None = None, metric: str = "ndcg@10", cohort: str = "all"
    ) -> tuple[Interval, Interval]:
        """Paired difference to `reference` (the comparison's own when not given): (absolute, share of its mean)."""
        return paired_difference(
            self.of(model, metric, cohort),
            self.of(reference or self.reference, metric, cohort),
            self.samples,
            self.seed,
            self.confidence,
        )

    def fairness(self, names: Sequence[str] = FAIR) -> dict[str, dict[str, dict]]:
        """model → metric → the worst group of users, and its distance to the best one with an interval."""
        groups = {name: self.cohorts[name] for name in GROUPS if name in self.cohorts}
        found: dict[str, dict[str, dict]] = {}
        for model in self.models:
            for name in names:
                if name not in self.values[model]:
                    continue
                gap = group_gap(
                    self.values[model][name], groups, samples=self.samples, seed=self.seed, confidence=self.confidence
                )
                found.setdefault(model, {})[name] = {
                    "worst": gap.worst, "best": gap.best, "worst_mean": gap.worst_value.mean,
                    "worst_low": gap.worst_value.low, "worst_high": gap.worst_value.high, "gap": gap.gap.mean,
                    "gap_low": gap.gap.low, "gap_high": gap.gap.high, "users": gap.gap.users,
                }
        return found

    def table(self, names: Sequence[str] = SHOWN, cohort: str = "all") -> list[dict]:
        """A row for each model, in their order: mean, low, high, users of each metric, and the paired difference.

        Example of a row: `{"model": "ease", "coverage": .3, "ndcg@10": {"mean": .1, "low": .08, "high": .12,
        "users": 80, "change": .25, "change_low": .1, "change_high": .4}}`; `change` is the share of the reference.
        """
        rows = []
        for model in self.models:
            row: dict = {"model": model, "coverage": self.coverage[model]}
            for name in names:
                interval = self.interval(model, name, cohort)
                _, change = self.difference(model, None, name, cohort)
                row[name] = {
                    "mean": interval.mean,
                    "low": interval.low,
                    "high": interval.high,
                    "users": interval.users,
                    "change": change.mean,
                    "change_low": change.low,
                    "change_high": change.high,
                }
            rows.append(row)
        return rows

    def means(self, model: str) -> dict[str, float]:
        """Every metric's mean over all users, ready to be logged; metrics without a value are left out."""
        found = {name: values[np.isfinite(values)] for name, values in self.values[model].items()}
        means = {name: float(values.mean()) for name, values in found.items() if values.size}
        whole = {
            f"exposure_gini@{LIST_DEPTH}": self.exposure.get(model, float("nan")),
            f"calibration_error@{CALIBRATED_DEPTH}": self.calibration.get(model, float("nan")),
        }
        known = {name: value for name, value in whole.items() if np.isfinite(value)}
        return {**means, f"coverage@{LIST_DEPTH}": self.coverage[model], **known}

    def to_dict(self) -> dict:
        """JSON-serialisable, values of users included (packed), ids of users not; `table` is there for readers."""
        return {
            "format": FORMAT,
            "models": list(self.models),
            "reference": self.reference,
            "as_of": self.as_of,
            "facts": self.facts,
            "coverage": self.coverage,
            "exposure": _without_infinities(self.exposure),
            "calibration": _without_infinities(self.calibration),
            "fairness": _without_infinities(self.fairness()),
            "stability": _without_infinities({
                model: self.interval(model, f"overlap@{LIST_DEPTH}", "idle").mean for model in self.models
            }),
            "health": {name: vars(health) for name, health in self.health.items()},
            "seconds": self.seconds,
            "samples": self.samples,
            "confidence": self.confidence,
            "seed": self.seed,
            "table": _without_infinities(self.table()),
            "by_cohort": _without_infinities(self._by_cohort()),
            "values": {
                model: {name: _pack(values) for name, values in by_name.items()}
                for model, by_name in self.values.items()
            },
            "cohorts": {name: _pack(members.astype(np.float32)) for name, members in self.cohorts.items()},
        }

    @classmethod
    def from_dict(cls, given: Mapping) -> Comparison:
        """The inverse of `to_dict`; raises ValueError for another format."""
        if given.get("format") != FORMAT:
            raise ValueError(f"The comparison has format {given.get('format')!r}, expected {FORMAT}. Evaluate again.")
        return cls(
            models=tuple(given["models"]),
            reference=given["reference"],
            as_of=given["as_of"],
            facts=dict(given["facts"]),
            values={
                model: {name: _unpack(text) for name, text in by_name.items()}
                for model, by_name in given["values"].items()
            },
            cohorts={name: _unpack(text) > 0 for name, text in given["cohorts"].items()},
            coverage=dict(given["coverage"]),
            exposure=_with_nan(given.get("exposure", {})),
            calibration=_with_nan(given.get("calibration", {})),
            health={name: Health(**facts) for name, facts in given["health"].items()},
            seconds=dict(given["seconds"]),
            samples=given["samples"],
            confidence=given["confidence"],
            seed=given["seed"],
        )

    def _by_cohort(self) -> dict[str, dict[str, dict[str, float]]]:
        """cohort → model → metric → mean, and the cohort's number of users with such a value."""
        found: dict[str, dict[str, dict[str, float]]] = {}
        for cohort in (*self.cohorts, *ITEM_COHORTS):
            found[cohort] = {}
            for model in self.models:
                row: dict[str, float] = {}
                for name in SHOWN:
                    values = self.of(model, name, cohort)
                    values = values[np.isfinite(values)]
                    row["users"] = max(int(values.size), int(row.get("users", 0)))
                    row[name] = float(values.mean()) if values.size else float("nan")
                found[cohort][model] = row
        return found


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


def _pack(values: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(values.astype("<f4").tobytes(), 6)).decode("ascii")


def _unpack(text: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<f4")


def _with_nan(found: Mapping[str, float | None]) -> dict[str, float]:
    """JSON's null as what it was."""
    return {name: float("nan") if value is None else value for name, value in found.items()}


def _without_infinities(found):
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(found, dict):
        return {name: _without_infinities(value) for name, value in found.items()}
    if isinstance(found, list):
        return [_without_infinities(value) for value in found]
    if isinstance(found, float) and not np.isfinite(found):
        return None
    return found
