"""
Several fitted recommenders, one split, the same users: what each is worth, how sure that is, and for whom.

Names of metrics: `ndcg@k`, `hr@k`, `mrr@k` ask for the user's next item; `recall@k` and `future_ndcg@k` for all items
of the test window (see split.py). `novelty@k`, `diversity@k`, `miscalibration@k` and `head_share@k` describe the lists;
`overlap@k` is what a list shares with the reference's.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.evaluation.bootstrap import Interval, interval_of, paired_difference, resampled_means
from pipeline.evaluation.calibration import CALIBRATED_DEPTH
from pipeline.evaluation.cohorts import GROUPS, ITEM_COHORTS
from pipeline.evaluation.fairness import group_gap

SHOWN = ("ndcg@10", "hr@10", "mrr@10", "recall@10", "recall@50")
FAIR = ("ndcg@10", "recall@50")
LIST_DEPTH = 10
"""Lists are described (novelty, diversity, calibration, coverage) at this depth."""
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
