"""
Where everything stands: partitions, models, what is served. Read only, and quick: neither Feast nor MLflow is imported.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from pipeline.contracts import (
    BEHAVIOR_EVENTS,
    INTEREST_WINDOWS,
    ITEM_TEXT,
    LATE_EVENTS,
    LONG_TERM_INTEREST,
    RECOMMENDATIONS,
    SEQUENCE_FEATURES,
    TABLES,
)
from pipeline.settings import Settings
from pipeline.stores.ledger import Ledger, PartitionRecord
from pipeline.stores.model_versions import MODELS
from pipeline.stores.registered import registered_versions
from pipeline.stores.served import served_views
from pipeline.stores.tables import Lake

VIEWS = tuple(t.name for t in (SEQUENCE_FEATURES, INTEREST_WINDOWS, LONG_TERM_INTEREST, ITEM_TEXT, RECOMMENDATIONS))


class Part(BaseModel):
    """A part of the status."""

    model_config = ConfigDict(frozen=True)


class PartitionStatus(Part):
    """One partition, as the ledger knows it."""

    table: str
    partition: str
    state: str
    counts: dict[str, int]
    version: int | None
    run_key: str
    written_at: datetime
    warnings: tuple[str, ...] = ()


class TableStatus(Part):
    """One table: its Delta version and the sums over its partitions."""

    table: str
    version: int | None
    partitions: int
    first: str | None
    last: str | None
    states: dict[str, int]
    counts: dict[str, int]


class ModelStatus(Part):
    """One registered version."""

    model: str
    version: int
    status: str
    aliases: tuple[str, ...]
    run_key: str
    model_cutoff: datetime
    space_id: str
    reasons: tuple[str, ...]


class ServedStatus(Part):
    """What the online store serves of one view."""

    view: str
    newest_event_time: datetime | None
    age_seconds: float | None
    entities: int | None


class Status(Part):
    """The whole status."""

    home: str
    known_at: datetime
    tables: tuple[TableStatus, ...]
    partitions: tuple[PartitionStatus, ...]
    quarantine: dict[str, int]
    late: dict[str, int] = {}
    """Days with rows that came too late and wait in `late_events`, and how many."""
    models: tuple[ModelStatus, ...]
    online: tuple[ServedStatus, ...]


def read_status(settings: Settings, known_at: datetime) -> Status:
    """The status of a home; an empty home has an empty status.

    Raises:
        EngineFailure: a store did not answer.
    """
    ledger = Ledger(settings.ledger_url)
    records = ledger.partitions() if ledger.revisions()[0] is not None else []
    lake = Lake.of(settings)
    return Status(
        home=str(settings.place("")),
        known_at=known_at,
        tables=_tables(lake, records),
        partitions=tuple(_partition(record) for record in records),
        quarantine=quarantine_of([record for record in records if record.table_name == BEHAVIOR_EVENTS.name]),
        late={
            record.partition: record.counts["rows"]
            for record in records
            if record.table_name == LATE_EVENTS.name and record.counts.get("rows")
        },
        models=_models(settings),
        online=_online(settings, known_at),
    )


def warnings_of(record: PartitionRecord) -> tuple[str, ...]:
    """What a day failed for or passed with, in words."""
    return tuple(str(found) for name in ("failures", "warnings") for found in record.details.get(name, ()))


def quarantine_of(records: list[PartitionRecord]) -> dict[str, int]:
    """Refused rows by reason over all days, most frequent first."""
    sums: Counter[str] = Counter()
    for record in records:
        reasons = record.details.get("reasons", {})
        sums.update({str(reason): int(rows) for reason, rows in reasons.items()})
    return dict(sorted(sums.items(), key=lambda pair: (-pair[1], pair[0])))


def _tables(lake: Lake, records: list[PartitionRecord]) -> tuple[TableStatus, ...]:
    found = []
    for table in TABLES:
        own = [record for record in records if record.table_name == table.name]
        version = lake.version(table)
        if version is None and not own:
            continue
        counts: Counter[str] = Counter()
        for record in own:
            counts.update(record.counts)
        found.append(
            TableStatus(
                table=table.name,
                version=version,
                partitions=len(own),
                first=own[0].partition if own else None,
                last=own[-1].partition if own else None,
                states=dict(sorted(Counter(record.state for record in own).items())),
                counts=dict(counts),
            )
        )
    return tuple(found)


def _partition(record: PartitionRecord) -> PartitionStatus:
    return PartitionStatus(
        table=record.table_name,
        partition=record.partition,
        state=record.state,
        counts=record.counts,
        version=record.version,
        run_key=record.run_key,
        written_at=record.written_at,
        warnings=warnings_of(record),
    )


def _models(settings: Settings) -> tuple[ModelStatus, ...]:
    return tuple(
        ModelStatus(
            model=entry.version.model,
            version=entry.version.number,
            status=entry.version.status,
            aliases=entry.aliases,
            run_key=entry.version.run_key,
            model_cutoff=entry.version.model_cutoff,
            space_id=entry.version.space_id,
            reasons=entry.version.reasons,
        )
        for entry in registered_versions(settings, MODELS)
    )


def _online(settings: Settings, known_at: datetime) -> tuple[ServedStatus, ...]:
    return tuple(
        ServedStatus(
            view=served.view,
            newest_event_time=served.newest,
            age_seconds=(known_at - served.newest).total_seconds() if served.newest else None,
            entities=served.entities,
        )
        for served in served_views(settings, VIEWS)
    )
