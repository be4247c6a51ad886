"""
What the ledger says about days after rows of erased users were taken out: rows in still is what was delivered.

The commit that takes rows out of the quarantine also carries the events' new lines, so that an erasure that dies right
after it finds them there when it goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from pipeline.contracts import BEHAVIOR_EVENTS, LATE_EVENTS, QUARANTINED_EVENTS, Table
from pipeline.stores.ledger import NOTE, Ledger, PartitionRecord, note_of, records_of
from pipeline.stores.tables import Lake

TOLD_BY_EVENTS = {QUARANTINED_EVENTS.name: "quarantined", LATE_EVENTS.name: "late"}
OF_EVENTS = "lines_of_events"
"""The part of a commit's note that has the events' lines."""


def note_after(table: Table, lines: Sequence[PartitionRecord]) -> dict[str, str]:
    """What the commit says: the table's own lines, and those of the events."""
    own = [line for line in lines if line.table_name == table.name]
    others = [line for line in lines if line.table_name != table.name]
    return note_of(own) | ({OF_EVENTS: note_of(others)[NOTE]} if others else {})


def hear_of_events(lake: Lake, ledger: Ledger, table: Table) -> None:
    """Tell the events' lines what the newest commit of a table took out, where they have not heard of it."""
    told = TOLD_BY_EVENTS.get(table.name)
    commit = next(lake.commits(table), None) if told else None
    if commit is None or OF_EVENTS not in commit.note:
        return
    carried = records_of(BEHAVIOR_EVENTS.name, commit.version, {NOTE: commit.note[OF_EVENTS]})
    news = []
    for key, line in carried.items():
        standing = ledger.partition(BEHAVIOR_EVENTS.name, key)
        # A line that is newer was made from the files as they are now, and counts what is gone by itself.
        if standing is not None and standing.written_at <= line.written_at:
            gone = standing.counts[told] - line.counts[told]
            counts = standing.counts | {
                told: line.counts[told],
                "erased": standing.counts.get("erased", 0) + gone,
            }
            news.append(_changed(standing, counts, counts.get("published", 0), line.written_at))
    ledger.record_partitions(news)


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
