"""
What the weekly trainings share: the run of a cutoff, its folder, what it measured, and its registration.

A run's folder is `<home>/models/<run_key>/`: `model/` appears whole or not at all, so its presence says that training
is done and a retry need not repeat it; `checkpoints/` is where an interrupted training goes on; `evaluation.json` is
what was measured and decided.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from pipeline.evaluation.comparison import SHOWN, Comparison
from pipeline.evaluation.model_card import draw_plots, model_card
from pipeline.evaluation.split import TimeSplit
from pipeline.faults import reach
from pipeline.observability import get_logger
from pipeline.partitions import run_key_of
from pipeline.serving.registered_model import LOADER, save_example
from pipeline.settings import Settings
from pipeline.steps.training_data import TrainingData
from pipeline.stores.model_versions import BACKTEST, Card, Version
from pipeline.stores.registration import register, registered
from pipeline.stores.registry import Registry

FEATURE_SERVICE = "training_v1"
BACKTEST_KEY = ".backtest"
"""The end of the run key of a version that was trained to look back."""
CHAMPION = "champion"
"""The champion's name in a comparison."""

log = get_logger(__name__)


class TrainedVersion(BaseModel):
    """A registered version and what it achieved on the test window."""

    model_config = ConfigDict(frozen=True)

    model: str
    version: int
    run_key: str
    space_id: str
    model_cutoff: datetime
    trained_until: datetime
    metrics: dict[str, float]
    was_registered: bool
    """Whether an earlier run of the same key had registered it already."""

    @classmethod
    def of(cls, version: Version, evaluation: Mapping, was_registered: bool) -> TrainedVersion:
        return cls(
            model=version.model,
            version=version.number,
            run_key=version.run_key,
            space_id=version.space_id,
            model_cutoff=version.model_cutoff,
            trained_until=version.trained_until,
            metrics={name: evaluation["metrics"][name] for name in SHOWN if name in evaluation["metrics"]},
            was_registered=was_registered,
        )


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what it has done; see the module."""

    path: Path

    @classmethod
    def of(cls, settings: Settings, run_key: str) -> RunFolder:
        return cls(settings.place(f"models/{run_key}"))

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def is_trained(self) -> bool:
        return self.model.is_dir()

    def keep(self, save: Callable[[Path], None], facts: Mapping[str, object]) -> None:
        """Let `save` write the model into a draft, add `training.json`, and make both appear at once."""
        draft = self.path / ".draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        save(draft)
        (draft / "training.json").write_text(json.dumps(facts, default=str), encoding="utf-8")
        reach("train.before_model")
        draft.rename(self.model)
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def training_facts(self) -> dict:
        return json.loads((self.model / "training.json").read_text(encoding="utf-8"))

    def write_evaluation(self, evaluation: Mapping[str, object]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        draft = self.evaluation.with_suffix(".draft")
        draft.write_text(json.dumps(evaluation, default=str), encoding="utf-8")
        draft.rename(self.evaluation)


@dataclass(frozen=True)
class ModelRun:
    """The training of a model as of a cutoff: one run key, one folder, at most one version."""

    model: str
    as_of: datetime
    """the first moment that is no longer in the data"""
    settings: Settings
    backtest: bool = False
    """whether it is trained to look back: under a run key of its own, and never to serve"""

    @property
    def key(self) -> str:
        return run_key_of(self.model, self.as_of) + (BACKTEST_KEY if self.backtest else "")

    @property
    def folder(self) -> RunFolder:
        return RunFolder.of(self.settings, self.key)

    @cached_property
    def registry(self) -> Registry:
        return Registry(self.settings)

    def champion(self) -> Version | None:
        """The version that a new one of this cutoff has to stand up to."""
        return self.registry.champion_before(self.model, self.as_of)

    def finished(self) -> TrainedVersion | None:
        """What an earlier run of the same key registered, if it came so far."""
        version = registered(self.registry, self.model, self.key)
        return version and TrainedVersion.of(version, self.measured(version), was_registered=True)

    def measured(self, version: Version) -> dict:
        """The evaluation of its version: from this machine, else from the registry."""
        own = self.folder.evaluation
        path = own if own.is_file() else self.registry.evidence(version, own.name)
        return json.loads(path.read_text(encoding="utf-8"))

    def comparing(self, item_vectors: np.ndarray | None) -> dict[str, object]:
        """How everything of this run is compared; keywords of `compare` and of the tables made with it."""
        return {
            "include_seen": self.settings.recommending.include_seen,
            "diversity": self.settings.recommending.diversity,
            "samples": self.settings.evaluation.bootstrap_samples,
            "confidence": self.settings.evaluation.confidence,
            "seed": self.settings.training.seed,
            "item_vectors": item_vectors,
        }

    def evaluation(self, comparison: Comparison, split: TimeSplit, space_id: str, **more: object) -> dict:
        """What is kept of an evaluation, as JSON holds it."""
        champion = self.champion()
        return {
            "model": self.model,
            "run_key": self.key,
            "champion_version": champion and champion.number,
            "model_cutoff": split.as_of.isoformat(),
            "trained_until": split.test_start.isoformat(),
            "space_id": space_id,
            "metrics": comparison.means(self.model),
            "comparison": comparison.to_dict(),
            **more,
        }

    def register(
        self,
        data: TrainingData,
        evaluation: dict,
        example: pl.DataFrame,
        params: Mapping[str, object],
        lineage: Mapping[str, str],
    ) -> TrainedVersion:
        """Write the model card and plots, keep the example's answer beside the weights, and register the lot.

        Args:
            evaluation: what `evaluation` gave; it is kept in the run's folder and with the version.
            lineage: from what else the version was made than the data and the settings tell.
        """
        folder = self.folder
        folder.write_evaluation(evaluation)
        lineage = lineage_of(data, self.settings, self.backtest) | lineage
        comparison = Comparison.from_dict(evaluation["comparison"])
        curves: dict[str, list[float]] = folder.training_facts()["curves"]
        rows, answer = save_example(folder.model, example)
        learned = data.histories.before(data.split.validation_start)
        (folder.model / "README.md").write_text(
            model_card(self.model, self.key, data.split, evaluation, params, lineage, learned), encoding="utf-8"
        )
        artifacts = [folder.evaluation, folder.model / "README.md"]
        baselines = {
            f"{name}/{metric}": value
            for name in comparison.models
            if name != self.model
            for metric, value in comparison.means(name).items()
            if metric in ("ndcg@10", "recall@50", "calibration_error@50")
        }
        card = Card(
            model_cutoff=data.split.as_of,
            trained_until=data.split.test_start,
            space_id=evaluation["space_id"],
            loader=LOADER,
            example=rows,
            answer=answer,
            lineage=lineage,
            params=dict(params),
            metrics=comparison.means(self.model) | baselines,
            curves={f"curve/{name}": values for name, values in curves.items()},
            datasets=[data.dataset()],
            artifacts=[*artifacts, *draw_plots(folder.path / "plots", comparison, curves)],
        )
        version = register(self.registry, self.model, self.key, folder.model, card)
        trained = TrainedVersion.of(version, evaluation, was_registered=False)
        log.info("model registered", **trained.model_dump(mode="json"))
        return trained


def lineage_of(data: TrainingData, settings: Settings, backtest: bool) -> dict[str, str]:
    """From what a version was made, as tags; the registry never lets one with BACKTEST serve."""
    found = {f"delta.{table}": str(version) for table, version in data.versions.items()}
    found |= {BACKTEST: "true"} if backtest else {}
    found |= {"feature_service": FEATURE_SERVICE, "seed": str(settings.training.seed)}
    if revision := git_revision():
        found["git_revision"] = revision
    return found


def git_revision() -> str | None:
    """The revision of the code; None where it does not run from a repository."""
    try:
        command = ["git", "rev-parse", "HEAD"]
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
