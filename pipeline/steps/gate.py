"""
The gate: a candidate is promoted or held, once, for reasons that are kept.

It must load in a fresh process, pass the rules beside the champion, and break nothing that other teams rely on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from pipeline.errors import NotFound, UnsafeModel
from pipeline.evaluation.comparison import Comparison
from pipeline.evaluation.gate import GateDecision, decide
from pipeline.evaluation.probes import ProbeResult
from pipeline.observability import get_logger
from pipeline.serving.registered_model import check_in_fresh_process
from pipeline.steps.model_runs import ModelRun
from pipeline.stores import promotions
from pipeline.stores.model_versions import Version
from pipeline.stores.registry import Registry

log = get_logger(__name__)


class GateOutcome(BaseModel):
    """What the gate decided about a version, and against which champion."""

    model_config = ConfigDict(frozen=True)

    model: str
    version: int
    run_key: str
    promoted: bool
    champion: int | None
    reasons: list[str]


def gate_run(
    run: ModelRun,
    judged: Mapping[str, str],
    evaluate: Callable[[Version], dict],
    known_at: datetime,
    probes: Callable[[Version], Sequence[ProbeResult]] = lambda version: (),
) -> GateOutcome:
    """Decide about a run's candidate. Repeating changes nothing.

    Args:
        judged: the names in the comparison that must pass, each with the name of its champion's counterpart.
        evaluate: measures a version again, beside the champion of now.
        probes: replays what other teams rely on; asked for when the candidate loads.

    Raises:
        NotFound: the run has not registered a version.
        EngineFailure: the process that loads it was killed; the candidate stays one, and the gate may run again.
    """
    version = run.registry.find(run.model, run.key)
    if version is None:
        raise NotFound(f"{run.key} has not registered a version, so there is nothing to gate. Train it first.")
    evaluation, champion = run.measured(version), run.champion()
    if version.status == "candidate":
        if evaluation["champion_version"] != (champion and champion.number):
            # An older week was decided since: the candidate has to beat the champion that serves now.
            evaluation = evaluate(version)
        promote, reasons = _decide(run, version, evaluation, judged, probes)
    else:
        promote, reasons = version.status == "promoted", list(version.reasons)
    if version.status != "rolled_back":  # A person's decision stands whatever runs again.
        act = promotions.promote if promote else promotions.hold
        version = act(run.registry, version, reasons, "gate", known_at)
    outcome = GateOutcome(
        model=version.model,
        version=version.number,
        run_key=version.run_key,
        promoted=promote,
        champion=evaluation["champion_version"],
        reasons=list(version.reasons),
    )
    log.info("gate decided", **outcome.model_dump())
    return outcome


def _decide(
    run: ModelRun,
    version: Version,
    evaluation: dict,
    judged: Mapping[str, str],
    probes: Callable[[Version], Sequence[ProbeResult]],
) -> tuple[bool, list[str]]:
    """Whether to promote and why; what was decided is added to the evaluation that is kept."""
    comparison = Comparison.from_dict(evaluation["comparison"])
    has_champion = evaluation["champion_version"] is not None
    decisions = [
        decide(comparison, name, opponent if has_champion else None, run.settings.gate)
        for name, opponent in judged.items()
    ]
    trouble = _does_not_load(run.registry, version)
    probed = probes(version) if trouble is None else ()
    holding = [result.reason for result in probed if result.holds]
    promote = trouble is None and not holding and all(decision.promote for decision in decisions)
    reasons = [f"Held: it does not load in a fresh process: {trouble}"] if trouble else holding
    for decision in sorted(decisions, key=lambda decision: decision.promote):
        reasons += [f"{_named(decision, decisions)}{reason}" for reason in decision.reasons]
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
    run.folder.write_evaluation(evaluation)
    run.registry.add_evidence(version, run.folder.evaluation)
    return promote, reasons


def _named(decision: GateDecision, decisions: Sequence[GateDecision]) -> str:
    return f"{decision.challenger}: " if len(decisions) > 1 else ""


def _does_not_load(registry: Registry, version: Version) -> str | None:
    try:
        return check_in_fresh_process(registry.fetch(version))
    except UnsafeModel as error:
        return str(error)
