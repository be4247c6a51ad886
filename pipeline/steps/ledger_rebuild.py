"""
Compares the ledger with the tables, and rebuilds it from them.

Every commit carries its lines of the ledger as a note. A day that failed wrote nothing, so only the ledger knows of it:
such lines are kept while the ledger can be read.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from pipeline.contracts import BEHAVIOR_EVENTS, TABLES, Table
from pipeline.partitions import Day, run_key_of
from pipeline.settings import Settings
from pipeline.stores.ledger import Ledger, PartitionRecord, Promotion, records_of
from pipeline.stores.model_versions import MODELS
from pipeline.stores.promotions import rollback_of
from pipeline.stores.registered import registered_versions
from pipeline.stores.tables import Commit, Lake
from pipeline.stores.tombstones import Tombstones

DECIDED = ("promoted", "held", "rolled_back")


class Disagreement(BaseModel):
    """One partition about which the ledger and its table differ."""

    model_config = ConfigDict(frozen=True)

    table: str
    partition: str
    in_ledger: str
    in_table: str


class Rebuilt(BaseModel):
    """What a rebuilt ledger holds."""

    model_config = ConfigDict(frozen=True)

    partitions: int
    promotions: int
    without_note: int
    """Partitions whose commit carried no note: their row counts are known, what was refused is not."""


def disagreements(lake: Lake, ledger: Ledger) -> list[Disagreement]:
    """The partitions about which the ledger and the tables differ, by table and day."""
    found = []
    for table in (table for table in TABLES if table.daily):
        rows = {day.key: count for day, count in lake.rows_by_day(table).items()}
        lines = {record.partition: record for record in ledger.partitions(table.name)}
        for key in sorted({*rows, *lines}):
            line, held = lines.get(key), rows.get(key, 0)
            if line is not None and line.state in ("failed", "skipped"):
                continue  # A failed day leaves what was there before.
            said = _rows_of(line) if line is not None else None
            known = said is None or said == held or (table.keeps_versions and 0 < said <= held)
            if line is None or not known or (line.state == "published") != (held > 0):
                stated = "no line" if line is None else f"{line.state}, {said if said is not None else '?'} rows"
                found.append(Disagreement(table=table.name, partition=key, in_ledger=stated, in_table=f"{held} rows"))
    return found


def rebuild_ledger(settings: Settings) -> Rebuilt:
    """Write the ledger anew from the tables' commits and the registry. Safe to repeat.

    Nothing else may write meanwhile. Raises EngineFailure when a store does not answer.
    """
    lake = Lake.of(settings)
    ledger = Ledger(settings.ledger_url)
    ledger.migrate()
    partitions, bare = 0, 0
    for table in TABLES:
        kept = {r.partition: r for r in ledger.partitions(table.name) if r.state != "published" or not table.daily}
        noted, counted = _lines_of(lake, table)
        lines = {**kept, **counted, **noted}
        for partition, record in kept.items():  # A failure after the last commit is news; one before it is not.
            if partition in noted and record.written_at > noted[partition].written_at:
                lines[partition] = record
        ledger.forget_partitions(table.name)
        ledger.record_partitions([lines[partition] for partition in sorted(lines)])
        partitions, bare = partitions + len(lines), bare + len(counted)
    Tombstones.of(settings).restore()
    promotions = _promotions(settings)
    for promotion in promotions:
        ledger.record_promotion(promotion)
    return Rebuilt(partitions=partitions, promotions=len(promotions), without_note=bare)


def _lines_of(lake: Lake, table: Table) -> tuple[dict[str, PartitionRecord], dict[str, PartitionRecord]]:
    """The lines that commits carry, newest first, and lines counted from the rows where no commit carries one."""
    noted: dict[str, PartitionRecord] = {}
    commits = list(lake.commits(table))
    for commit in commits:
        for partition, record in records_of(table.name, commit.version, commit.note).items():
            noted.setdefault(partition, record)
    if not table.daily:
        return noted, {}
    rows = lake.rows_by_day(table)
    gone = [key for key, record in noted.items() if record.state == "published" and Day.parse(key) not in rows]
    for key in gone:
        del noted[key]
    bare = [day for day in rows if day.key not in noted]
    return noted, {day.key: _counted(table, day, rows[day], commits) for day in bare}


def _counted(table: Table, day: Day, rows: int, commits: list[Commit]) -> PartitionRecord:
    covering = (c for c in commits if c.first is None or c.last is None or c.first <= day <= c.last)
    commit = next(covering, commits[-1])
    return PartitionRecord(
        table_name=table.name,
        partition=day.key,
        state="published",
        counts={"published" if table == BEHAVIOR_EVENTS else "rows": rows},
        details={"warnings": ["rebuilt from the rows: what was refused that day is in quarantined_events"]},
        version=commit.version,
        run_key=run_key_of("behavior_logs" if table == BEHAVIOR_EVENTS else table.name, day.start),
        written_at=commit.at,
    )


def _promotions(settings: Settings) -> list[Promotion]:
    """Every decision that the registry holds, as the gate wrote it."""
    found = []
    for model in MODELS:
        versions = [entry.version for entry in registered_versions(settings, [model])]
        for version in versions:
            if version.status not in DECIDED or "decided_at" not in version.tags:
                continue
            before = [v for v in versions if v.was_promoted and v.model_cutoff < version.model_cutoff]
            if version.status == "rolled_back":
                found.append(rollback_of(version))
            found.append(
                Promotion(
                    model=model,
                    run_key=version.run_key,
                    decision="promoted" if version.was_promoted else version.status,
                    from_version=before[-1].number if before else None,
                    to_version=version.number,
                    reasons=list(version.reasons),
                    decided_by=version.tags.get("decided_by", "unknown"),
                    decided_at=version.tags["decided_at"],
                )
            )
    return found


def _rows_of(record: PartitionRecord) -> int | None:
    """How many rows the ledger says a partition has; None where it does not say."""
    return record.counts.get("published", record.counts.get("rows"))
