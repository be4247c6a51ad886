"""
Decides which versions may serve: promoted or held once, with reasons; withdrawn and reinstated by a rollback.

A decision is written as tags of the version, its status last: until then it does not exist, and a retry takes it again.
The ledger keeps a line of each.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from pipeline.errors import UserMistake
from pipeline.faults import reach
from pipeline.stores.ledger import Ledger, Promotion
from pipeline.stores.mlflow_answers import answering
from pipeline.stores.model_versions import BACKTEST, Status, Version
from pipeline.stores.registry import CHAMPION, Registry


def promote(
    registry: Registry, version: Version, reasons: Sequence[str], decided_by: str, known_at: datetime
) -> Version:
    """Let a version serve from its cutoff on. The champion alias follows only to a newer cutoff.

    Raises:
        UserMistake: the version was trained to look back, and can never serve.
    """
    if BACKTEST in registry.version(version.model, version.number).tags:
        raise UserMistake(
            f"{version.name} is a backtest: it was trained to look back, and can never serve. Nothing has changed. "
            "Train the day anew with `interest train --as-of DAY`; the gate decides on that version."
        )
    return _decide(registry, version, "promoted", reasons, decided_by, known_at)


def hold(
    registry: Registry, version: Version, reasons: Sequence[str], decided_by: str, known_at: datetime
) -> Version:
    """Keep a version from serving. No champion changes."""
    return _decide(registry, version, "held", reasons, decided_by, known_at)


def _decide(
    registry: Registry,
    version: Version,
    decision: Status,
    reasons: Sequence[str],
    decided_by: str,
    known_at: datetime,
) -> Version:
    with answering(registry.settings):
        standing = registry.version(version.model, version.number)
        if standing.status == decision:  # Taken before; only what a crash may have left undone is done again.
            reasons, decided_by = standing.reasons, standing.tags["decided_by"]
            known_at = datetime.fromisoformat(standing.tags["decided_at"])
        served = registry.champion_before(version.model, version.model_cutoff)
        facts = {"reasons": json.dumps(list(reasons)), "decided_by": decided_by, "decided_at": known_at.isoformat()}
        registry.note(version, facts)
        reach("promote.before_status")
        registry.note(version, {"status": decision})
        reach("promote.before_alias")
        if decision == "promoted":
            registry.move_alias(CHAMPION, version)
        reach("promote.before_ledger")
        Ledger(registry.settings.ledger_url).record_promotion(
            Promotion(
                model=version.model,
                run_key=version.run_key,
                decision=decision,
                from_version=served and served.number,
                to_version=version.number,
                reasons=list(reasons),
                decided_by=decided_by,
                decided_at=known_at,
            )
        )
        return registry.version(version.model, version.number)


def withdraw(
    registry: Registry,
    version: Version,
    to: Version,
    since: datetime,
    reason: str,
    decided_by: str,
    known_at: datetime,
) -> Version:
    """Keep a promoted version from serving days from `since` on; earlier days stay its own.

    The champion alias goes back to `to`: the one move backward, and the ledger keeps it as a line of its own. A version
    that is withdrawn already stays as it is.
    """
    standing = registry.version(version.model, version.number)
    if standing.status == "promoted":
        spans = [*_spans(standing), [since.isoformat(), None]]
        facts = {"by": decided_by, "at": known_at.isoformat(), "reason": reason, "to": str(to.number)}
        registry.note(standing, {f"withdrawn_{name}": fact for name, fact in facts.items()})
        # Both in this order: a version that is `rolled_back` without a span would lose its history.
        registry.note(standing, {"withdrawn": json.dumps(spans), "status": "rolled_back"})
        standing = registry.version(version.model, version.number)
    registry.move_alias_back(CHAMPION, version, to)
    Ledger(registry.settings.ledger_url).record_promotion(rollback_of(standing))
    return standing


def reinstate(
    registry: Registry, version: Version, since: datetime, reason: str, decided_by: str, known_at: datetime
) -> Version:
    """Let a version that was withdrawn serve again from `since` on: a rollback that goes forward."""
    standing = registry.version(version.model, version.number)
    if standing.status == "rolled_back":
        *earlier, (start, _) = _spans(standing)
        spans = [*earlier, [start, since.isoformat()]] if datetime.fromisoformat(start) < since else earlier
        before = registry.champion(version.model)
        registry.note(standing, {"withdrawn": json.dumps(spans), "status": "promoted"})
        registry.move_alias(CHAMPION, standing)
        Ledger(registry.settings.ledger_url).record_promotion(
            Promotion(
                model=standing.model,
                run_key=f"again:{known_at.isoformat()}:{standing.run_key}",
                decision="promoted",
                from_version=before and before.number,
                to_version=standing.number,
                reasons=[reason],
                decided_by=decided_by,
                decided_at=known_at,
            )
        )
    return registry.version(version.model, version.number)


def rollback_of(version: Version) -> Promotion:
    """The ledger's line about a withdrawn version, from its tags."""
    at = version.tags["withdrawn_at"]
    return Promotion(
        model=version.model,
        run_key=f"rollback:{at}:{version.run_key}",
        decision="rolled_back",
        from_version=version.number,
        to_version=int(version.tags["withdrawn_to"]),
        reasons=[version.tags["withdrawn_reason"]],
        decided_by=version.tags["withdrawn_by"],
        decided_at=datetime.fromisoformat(at),
    )


def _spans(version: Version) -> list[list[str | None]]:
    return json.loads(version.tags.get("withdrawn", "[]"))
