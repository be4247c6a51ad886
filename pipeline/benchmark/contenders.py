"""
What takes part: our models and the baselines, each fitted on one split with one seed, with what that cost.

Of a baseline the setting is chosen on the validation part, from a small grid, and then fitted on all that it may learn
from. CPU seconds are those of the whole process, all its threads together.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pipeline.benchmark.peers import SASREC, SASRec, peers_python
from pipeline.benchmark.questions import TIME, BenchmarkSplit
from pipeline.errors import BadSetting
from pipeline.evaluation.compare import compare
from pipeline.models.baselines import EASE, ImplicitALS, ItemKNN, Popularity, Popularity30d
from pipeline.models.collaborative_filter import CollaborativeFilter, CollaborativeFilterConfig
from pipeline.models.content import Content
from pipeline.models.interest_config import InterestEvolutionConfig
from pipeline.models.interest_evolution import InterestEvolutionModel
from pipeline.models.interest_vectors import WithInterest
from pipeline.models.recommender import Recommender
from pipeline.models.release import Release
from pipeline.models.translation import encoder_in
from pipeline.training.epochs import TrainingRun
from pipeline.training.loop import train_interest_model

OURS = ("interest_evolution", "collaborative_filter", "collaborative_filter_without_lti", "content", "hybrid")
BASELINES: dict[str, Callable[[int], list[Recommender]]] = {
    "popularity": lambda seed: [Popularity()],
    "popularity_30d": lambda seed: [Popularity30d()],
    "item_knn": lambda seed: [ItemKNN(neighbours, shrinkage) for neighbours in (50, 200) for shrinkage in (0.0, 10.0)],
    "ease": lambda seed: [EASE(regularisation) for regularisation in (30.0, 100.0, 300.0, 1000.0)],
    "implicit_als": lambda seed: [
        ImplicitALS(factors, 0.05, alpha, seed=seed) for factors in (48, 128) for alpha in (1.0, 10.0)
    ],
}
MODELS = (*OURS, *BASELINES, SASREC)
SEEDED = (*OURS, "implicit_als", SASREC)
"""The others give the same answer whatever the seed is."""
TUNING_USERS = 2000


def models_at_hand() -> tuple[str, ...]:
    """All models, without those of other libraries where their environment is not there."""
    return tuple(name for name in MODELS if name != SASREC or peers_python())


@dataclass
class Contenders:
    """Fits what is asked for, and what that needs; each model once."""

    split: BenchmarkSplit
    text: np.ndarray | None
    text_space: str
    seed: int
    budget_cpu_seconds: float
    include_seen: bool = False
    model_changes: dict[str, object] = field(default_factory=dict)
    facts: dict[str, dict[str, object]] = field(default_factory=dict)
    """model → `cpu_seconds` of fitting, and what else is worth knowing"""
    fitted: dict[str, Recommender] = field(default_factory=dict)
    interest: InterestEvolutionModel | None = None

    def get(self, name: str) -> Recommender:
        """The model, knowing all that is known when the test begins. Raises BadSetting for an unknown name."""
        if name not in MODELS:
            raise BadSetting(f"There is no model {name!r} in this benchmark. Expected: {', '.join(MODELS)}.")
        if name not in self.fitted:
            began = time.process_time()
            self.facts[name] = {}
            make = getattr(self, f"_{name}", None)
            self.fitted[name] = make() if make else self._baseline(name)
            self.facts[name] = {"cpu_seconds": round(time.process_time() - began, 2), **self.facts[name]}
        return self.fitted[name]

    # ---- ours

    def _interest_evolution(self) -> Recommender:
        split = self.split
        # Leave one out: the strict protocol reads the validation item, and does not learn from it.
        strict = {} if split.kind == TIME else {"final_share": 0.0}
        config = InterestEvolutionConfig.changed({
            "text_space_id": self.text_space, "new_items_only": not self.include_seen, **self.model_changes, **strict,
        })
        run = TrainingRun(
            seed=self.seed, max_epochs=1000, patience=8, max_seconds=float("inf"),
            max_cpu_seconds=self.budget_cpu_seconds,
        )
        trained = train_interest_model(split.train, split.validation, split.catalogue, self.text, config, run)
        self.interest = trained.model.observe(split.known, split.test_start)
        self.facts["interest_evolution"] = {
            "training_cpu_seconds": round(trained.cpu_seconds, 2),
            "tokens": trained.tokens,
            "tokens_per_cpu_second": round(trained.tokens / max(trained.cpu_seconds, 1e-9)),
            "steps": trained.steps,
            "best_epoch": trained.best_epoch,
            "epochs": len(trained.curves),
            "stopped_because": trained.stopped_because,
            "curves": trained.curves,
        }
        return self.interest

    def _collaborative_filter(self) -> Recommender:
        split, interest = self.split, self.get("interest_evolution")
        tuned = CollaborativeFilter(
            CollaborativeFilterConfig(
                seed=self.seed, include_seen=self.include_seen, learn_the_window=split.kind == TIME
            ),
            space_id=interest.config.space_id,
        )
        encode = encoder_in(interest, split.catalogue)
        tuned.fit(
            split.known, split.catalogue, split.test_start, encode=encode, item_vectors=self.text,
            validation_start=split.validation_start if split.kind == TIME else None,
            parts=(split.train, split.validation),
        )
        self.facts["collaborative_filter"] = {"interest_strength": tuned.interest_strength, "curves": tuned.curves}
        self.filter = tuned
        return WithInterest(tuned, encode, "collaborative_filter")

    def _collaborative_filter_without_lti(self) -> Recommender:
        self.get("collaborative_filter")
        return WithInterest(self.filter, lambda histories: np.zeros((histories.num_users, self.interest.config.dim),
                                                                    dtype=np.float32), "without")

    def _content(self) -> Recommender:
        return Content(self.text).fit(self.split.known, self.split.catalogue, self.split.test_start)

    def _hybrid(self) -> Recommender:
        """The release that is served: weights from where every part knows the training part only."""
        split, interest = self.split, self.get("interest_evolution")
        self.get("collaborative_filter")
        vectors = split.catalogue.category_matrix() if self.text is None else self.text
        release = Release(self.filter, interest, vectors)
        release.fit_weights(
            split.train, split.validation, split.validation_start, self.include_seen, own_moments=split.kind != TIME
        )
        release.observe(split.known, split.test_start)
        if split.fitted is not split.known:  # the strict protocol reads the validation item and does not learn from it
            release.neighbours.fit(split.fitted, split.catalogue, split.test_start)
        self.facts["hybrid"] = {"weights": release.hybrid.weights, "fresh": release.hybrid.fresh}
        return release

    # ---- baselines

    def _sasrec_rectools(self) -> Recommender:
        split = self.split
        peer = SASRec(self.budget_cpu_seconds, self.seed, self.include_seen, split.known)
        peer.fit(split.fitted, split.catalogue, split.test_start)
        self.facts[SASREC] = {"cpu_seconds": peer.facts["training_cpu_seconds"], **peer.facts}
        return peer

    def _baseline(self, name: str) -> Recommender:
        candidates, split = BASELINES[name](self.seed), self.split
        chosen = candidates[0] if len(candidates) == 1 else self._best(name, candidates)
        return chosen.fit(split.fitted, split.catalogue, split.test_start)

    def _best(self, name: str, candidates: list[Recommender]) -> Recommender:
        """The one, unfitted, that finds most of the validation part. They are fitted in turn: some are gigabytes."""
        makers = []
        while candidates:
            candidate = candidates.pop(0)
            settings = {key: value for key, value in vars(candidate).items() if isinstance(value, int | float)}
            makers.append((self._worth(candidate), type(candidate), settings))
        _, kind, settings = max(makers, key=lambda maker: maker[0])
        self.facts[name] = {"chosen": settings}
        return kind(**settings)

    def _worth(self, candidate: Recommender) -> float:
        """NDCG@10 and recall@50 together, of users of the validation part."""
        split = self.split
        asked = np.flatnonzero((split.train.lengths > 0) & (split.validation.lengths > 0))
        if len(asked) > TUNING_USERS:
            asked = np.sort(np.random.default_rng(0).choice(asked, TUNING_USERS, replace=False))
        candidate.fit(split.train, split.catalogue, split.validation_start)
        found = compare(
            {"it": candidate}, split.train.take(asked), split.validation.take(asked), split.catalogue,
            split.validation_start, include_seen=self.include_seen, samples=1,
        )
        return float(np.nanmean(found.of("it", "ndcg@10")) + np.nanmean(found.of("it", "recall@50")))
