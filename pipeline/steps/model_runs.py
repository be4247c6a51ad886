"""
What the weekly trainings share: the folder of a run, registration, and the gate.

A run's folder is `<home>/models/<run_key>/`: `model/` appears whole or not at all, so its presence says that training
is done and a retry need not repeat it; `checkpoints/` is where an interrupted training goes on; `evaluation.json` is
what was measured and decided.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict

from pipeline.errors import NotFound, UnsafeModel
from pipeline.evaluation.comparison import SHOWN, Comparison
from pipeline.evaluation.gate import decide
from pipeline.evaluation.model_card import draw_plots, model_card
from pipeline.evaluation.probes import ProbeResult
from pipeline.faults import reach
from pipeline.observability import get_logger
from pipeline.serving.registered_model import LOADER, check_in_fresh_process, save_example
from pipeline.settings import Settings
from pipeline.steps.training_data import TrainingData
from pipeline.stores.model_versions import BACKTEST, Card, Version
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


class GateOutcome(BaseModel):
    """What the gate decided about a version, and against which champion."""

    model_config = ConfigDict(frozen=True)

    model: str
    version: int
    run_key: str
    promoted: bool
    champion: int | None
    reasons: list[str]


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


def register_run(
    registry: Registry,
    model: str,
    run_key: str,
    run: RunFolder,
    data: TrainingData,
    evaluation: dict,
    example: pl.DataFrame,
    space_id: str,
    params: Mapping[str, object],
    lineage: Mapping[str, str],
) -> Version:
    """Write the model card and plots, keep the example's answer beside the weights, and register the lot."""
    comparison = Comparison.from_dict(evaluation["comparison"])
    curves: dict[str, list[float]] = run.training_facts()["curves"]
    rows, answer = save_example(run.model, example)
    (run.model / "README.md").write_text(
        model_card(model, run_key, data.split, evaluation, params, lineage), encoding="utf-8"
    )
    artifacts = [run.evaluation, run.model / "README.md", *draw_plots(run.path / "plots", comparison, curves)]
    baselines = {
        f"{name}/{metric}": value
        for name in comparison.models
        if name != model
        for metric, value in comparison.means(name).items()
        if metric in ("ndcg@10", "recall@50")
    }
    card = Card(
        model_cutoff=data.split.as_of,
        trained_until=data.split.test_start,
        space_id=space_id,
        loader=LOADER,
        example=rows,
        answer=answer,
        lineage=dict(lineage),
        params=dict(params),
        metrics=comparison.means(model) | baselines,
        curves={f"curve/{name}": values for name, values in curves.items()},
        datasets=[data.dataset()],
        artifacts=artifacts,
    )
    return registry.register(model, run_key, run.model, card)


def lineage_of(data: TrainingData, settings: Settings, backtest: bool = False) -> dict[str, str]:
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


def read_evaluation(registry: Registry, run: RunFolder, version: Version) -> dict:
    """What training measured: from this machine, else from the registry."""
    path = run.evaluation if run.evaluation.is_file() else registry.evidence(version, run.evaluation.name)
    return json.loads(path.read_text(encoding="utf-8"))


def registered(registry: Registry, model: str, run_key: str) -> Version:
    """Raises NotFound when the run has not registered a version."""
    version = registry.find(model, run_key)
    if version is None:
        raise NotFound(f"{run_key} has not registered a version, so there is nothing to gate. Train it first.")
    return version


def gate_version(
    registry: Registry,
    run: RunFolder,
    version: Version,
    evaluation: dict,
    judged: Mapping[str, str],
    settings: Settings,
    known_at: datetime,
    probes: Callable[[], Sequence[ProbeResult]] = tuple,
) -> GateOutcome:
    """Decide about a candidate once: it must load in a fresh process and pass the rules. Repeating changes nothing.

    Args:
        judged: the names in the comparison that must pass, each with the name of its champion's counterpart.
        probes: replays what other teams rely on; asked for when the candidate loads.

    Raises:
        EngineFailure: the process that loads it was killed; the candidate stays one, and the gate may run again.
    """
    champion = evaluation["champion_version"]
    if version.status == "candidate":
        comparison = Comparison.from_dict(evaluation["comparison"])
        decisions = [
            decide(comparison, name, opponent if champion is not None else None, settings.gate)
            for name, opponent in judged.items()
        ]
        trouble = _does_not_load(registry, version)
        probed = probes() if trouble is None else ()
        holding = [result.reason for result in probed if result.holds]
        promote = trouble is None and not holding and all(decision.promote for decision in decisions)
        reasons = [f"Held: it does not load in a fresh process: {trouble}"] if trouble else holding
        for decision in sorted(decisions, key=lambda decision: decision.promote):
            name = f"{decision.challenger}: " if len(decisions) > 1 else ""
            reasons += [f"{name}{reason}" for reason in decision.reasons]
        reasons += [result.reason for result in probed if not result.holds]
        evaluation["decision"] = decisions[0].to_dict() | {
            "promote": promote,
            "reasons": reasons,
            "probes": [asdict(result) for result in probed],
            "outcomes": [
                outcome | {"challenger_name": decision.challenger if len(decisions) > 1 else ""}
                for decision in decisions
                for outcome in decision.to_dict()["outcomes"]
            ],
        }
        run.write_evaluation(evaluation)
        registry.add_evidence(version, run.evaluation)
    else:
        promote, reasons = version.status == "promoted", list(version.reasons)
    if version.status != "rolled_back":  # A person's decision stands whatever runs again.
        act = registry.promote if promote else registry.hold
        version = act(version, reasons, "gate", known_at)
    outcome = GateOutcome(
        model=version.model,
        version=version.number,
        run_key=version.run_key,
        promoted=promote,
        champion=champion,
        reasons=list(version.reasons),
    )
    log.info("gate decided", **outcome.model_dump())
    return outcome


def _does_not_load(registry: Registry, version: Version) -> str | None:
    try:
        return check_in_fresh_process(registry.fetch(version))
    except UnsafeModel as error:
        return str(error)
