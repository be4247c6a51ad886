"""What the ledger says about days after rows of erased users were taken out: rows in still is what was delivered."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pipeline.contracts import BEHAVIOR_EVENTS, LATE_EVENTS, QUARANTINED_EVENTS, Table
from pipeline.stores.ledger import Ledger, PartitionRecord

TOLD_BY_EVENTS = {QUARANTINED_EVENTS.name: "quarantined", LATE_EVENTS.name: "late"}


def lines_after(
    ledger: Ledger, table: Table, gone: Mapping[str, int], left: Mapping[str, int], known_at: datetime
) -> list[PartitionRecord]:
    """The new lines of the days. What left the quarantine or the late rows is told by the line of its events, too.

    Args:
        gone: rows taken out of each day.
        left: rows that each day has now, one for each key.
    """
    lines = []
    for key, rows in gone.items():
        line = ledger.partition(table.name, key)
        if line is not None:
            counted = "published" if "published" in line.counts else "rows"
            counts = line.counts | {counted: left.get(key, 0)}
            if table == BEHAVIOR_EVENTS:
                counts["erased"] = counts.get("erased", 0) + rows
            lines.append(_changed(line, counts, left.get(key, 0), known_at))
        told = TOLD_BY_EVENTS.get(table.name)
        events = ledger.partition(BEHAVIOR_EVENTS.name, key) if told else None
        if events is not None and told in events.counts:
            counts = events.counts | {
                told: events.counts[told] - rows,
                "erased": events.counts.get("erased", 0) + rows,
            }
            lines.append(_changed(events, counts, counts.get("published", 0), known_at))
    return lines


def _changed(line: PartitionRecord, counts: dict[str, int], rows: int, known_at: datetime) -> PartitionRecord:
    state = line.state if rows or line.state != "published" else "empty"
    return line.model_copy(update={"counts": counts, "state": state, "written_at": known_at})
