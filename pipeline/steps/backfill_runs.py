"""
Whether a scheduled run belongs to a backfill, told from Dag to Dag.

The run of the root carries the backfill's plan id in its configuration; every run below gets it from the events that
brought it about. A run of a backfill writes tables and pushes nothing; a week of them trains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.settings import Settings
from pipeline.stores.backfills import Backfills
from pipeline.stores.ledger import Ledger

BACKFILL = "backfill"


def backfill_at_root(context: Mapping[str, Any], settings: Settings) -> str | None:
    """The backfill that a run of the root belongs to: named in its configuration, running, and holding its day.

    A run that is taken up again later, by hand, still has the configuration; it is an ordinary run then.
    """
    named = (context["dag_run"].conf or {}).get(BACKFILL)
    record = Backfills(Ledger(settings.ledger_url)).find(named) if named else None
    holds = record is not None and record.state == "running" and context["partition_key"] in record.days
    return named if holds else None


def backfill_of(context: Mapping[str, Any]) -> str | None:
    """The backfill that a run below the root belongs to; None where any of its events comes from elsewhere."""
    events = [event for found in context["triggering_asset_events"].values() for event in found]
    named = [(event.extra or {}).get(BACKFILL) for event in events]
    return named[-1] if named and all(named) else None


def tell_on(backfill: str | None, event: Any) -> None:
    """Let the event that a task brings about carry the backfill of its run."""
    if backfill is not None:
        event.extra = {**event.extra, BACKFILL: backfill}


def why_nothing_is_trained(backfill: str) -> str:
    return f"backfill {backfill} trains nothing: every day of this week was restated by it. See --train-as-of."
