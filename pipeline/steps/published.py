"""
What became of the days of a log: the result of publishing, and the same in the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from pipeline.contracts import BEHAVIOR_EVENTS, QUARANTINED_EVENTS
from pipeline.errors import BadData, InterestError, UnbalancedCounts
from pipeline.partitions import Day, run_key_of
from pipeline.settings import Settings
from pipeline.stores.ledger import Ledger, PartitionRecord, note_of
from pipeline.stores.tables import Lake

COUNTED = ("read", "published", "quarantined", "duplicates", "erased", "conflicts", "unknown_items", "unreadable_files")


class PublishedEvents(BaseModel):
    """What became of one day of logs."""

    model_config = ConfigDict(frozen=True)

    day: str
    state: str
    """`published`, or `empty` for a day that holds no event."""
    read: int
    published: int
    quarantined: int
    duplicates: int
    erased: int = 0
    """Rows that were delivered of users who were erased; they are nowhere any more."""
    conflicts: int
    """Of the duplicates, those that said something else than the row that was kept."""
    unknown_items: int
    """Published events whose item is not in the catalogue."""
    unreadable_files: int
    reasons: dict[str, int]
    warnings: tuple[str, ...]
    version: int | None
    quarantine_version: int | None = None
    changed: bool
    provenance: dict[str, object] = {}
    """What the day was made by and from (`pipeline.steps.provenance`)."""

    def must_balance(self) -> None:
        """Raises UnbalancedCounts unless every row that was read is somewhere."""
        if self.read != self.published + self.quarantined + self.duplicates + self.erased:
            raise UnbalancedCounts(
                f"{BEHAVIOR_EVENTS.name} {self.day}: {self.read:,} rows in, but {self.published:,} published + "
                f"{self.quarantined:,} quarantined + {self.duplicates:,} duplicates + {self.erased:,} erased. "
                "Nothing was published; this is a fault of the platform, please report it."
            )


class PublishedHistory(BaseModel):
    """What became of a range of days."""

    model_config = ConfigDict(frozen=True)

    first: str
    last: str
    days: tuple[PublishedEvents, ...]
    failed: dict[str, str]
    """Days that were not published, and why; the others were."""

    def total(self, count: str) -> int:
        """The sum of one count (`read`, `published`, `quarantined`, ...) over the published days."""
        return sum(getattr(day, count) for day in self.days)

    @property
    def changed(self) -> bool:
        return any(day.changed for day in self.days)


def record_days(
    published: Sequence[PublishedEvents],
    failed: Mapping[str, InterestError],
    lake: Lake,
    settings: Settings,
    known_at: datetime,
    landed: Mapping[str, str],
) -> None:
    """Write the ledger's lines of these days. A line that would say the same is left as it is.

    A day that failed because of its data is `failed`; a day whose logs are missing, and a day that a broken tool
    stopped, have no new line.
    """
    records = [record for outcome in published for record in _records_of(outcome, known_at)]
    name, version = BEHAVIOR_EVENTS.name, lake.version(BEHAVIOR_EVENTS)
    for key, why in failed.items():
        if isinstance(why, BadData):
            details = {"failures": [str(why)], "upstream": {"landing": landed.get(key, "")}}
            records.append(_record(name, key, "failed", {}, details, version, known_at))
    ledger = Ledger(settings.ledger_url)
    if fresh := _fresh(ledger, records):
        ledger.record_partitions(fresh)


def notes_of(
    published: Sequence[PublishedEvents], settings: Settings, known_at: datetime
) -> tuple[dict[str, str], dict[str, str]]:
    """The ledger's lines of these days as notes for their commits: of the events, and of the quarantine."""
    records = [record for outcome in published for record in _records_of(outcome, known_at)]
    fresh = _fresh(Ledger(settings.ledger_url), records)
    events, quarantine = (
        note_of([record for record in fresh if record.table_name == table.name])
        for table in (BEHAVIOR_EVENTS, QUARANTINED_EVENTS)
    )
    return events, quarantine


CLOCKS = {"written_at", "version"}


def _fresh(ledger: Ledger, records: Sequence[PartitionRecord]) -> list[PartitionRecord]:
    """The lines that say something else than the ledger does."""
    standing = {
        (record.table_name, record.partition): record.model_dump(exclude=CLOCKS)
        for table in (BEHAVIOR_EVENTS, QUARANTINED_EVENTS)
        for record in ledger.partitions(table.name)
    }
    return [r for r in records if standing.get((r.table_name, r.partition)) != r.model_dump(exclude=CLOCKS)]


def _records_of(outcome: PublishedEvents, known_at: datetime) -> list[PartitionRecord]:
    counts = {name: getattr(outcome, name) for name in COUNTED}
    details = {"reasons": outcome.reasons, "warnings": list(outcome.warnings), **outcome.provenance}
    refused_state = "published" if outcome.quarantined else "empty"
    refused = {"rows": outcome.quarantined}
    # Other files may be refused for the same reasons: without their name, the line of what they replaced would stand.
    refused_details = {"reasons": outcome.reasons, "upstream": outcome.provenance.get("upstream", {})}
    return [
        _record(BEHAVIOR_EVENTS.name, outcome.day, outcome.state, counts, details, outcome.version, known_at),
        _record(
            QUARANTINED_EVENTS.name,
            outcome.day,
            refused_state,
            refused,
            refused_details,
            outcome.quarantine_version,
            known_at,
        ),
    ]


def _record(table: str, day: str, state: str, counts: dict, details: dict, version: int | None, known_at: datetime):
    run_key = run_key_of("behavior_logs", Day.parse(day).start)
    return PartitionRecord(
        table_name=table,
        partition=day,
        state=state,
        counts=counts,
        details=details,
        version=version,
        run_key=run_key,
        written_at=known_at,
    )
