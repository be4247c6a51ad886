"""
One run over the days of a served table, of vectors or of lists: how a day's rows are written, recorded and pushed.

The step that a table belongs to says what its rows are and what they are made from.

When a run dies between writing and pushing, the next one finds the other days that it wrote in order, and would not
push them. So a run that writes several days also pushes those that were in order already. All of them pass the fence:
what is served is never replaced by something older.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from pipeline.contracts import Table
from pipeline.partitions import Day, run_key_of
from pipeline.settings import Settings
from pipeline.steps.ledger_news import catch_up
from pipeline.steps.online_rebuild import newest_rows
from pipeline.steps.provenance import MODEL, provenance, upstream_contents
from pipeline.steps.serving_days import NO_MODEL_YET, Timeline, days_behind_their_sequences, sequences_to_serve
from pipeline.stores.feature_store import push_online
from pipeline.stores.ledger import Ledger, PartitionRecord, note_of
from pipeline.stores.model_versions import Version
from pipeline.stores.registry import Registry
from pipeline.stores.tables import Committed, Lake


@dataclass(frozen=True)
class ServedDay:
    """A day after its rows were written."""

    version: Version
    everyone: bool
    rows: pl.DataFrame
    standing: pl.DataFrame
    """What the table holds now: an unchanged row keeps the time at which it was first known."""
    changed: bool
    pushed: int


class ServedTable(ABC):
    """The table whose days are made, and the stores of one run."""

    table: Table
    beside: tuple[Table, ...] = ()
    """Tables that are pushed together with it."""

    def __init__(self, settings: Settings, known_at: datetime, push: bool = True):
        self.settings, self.known_at, self.push = settings, known_at, push
        self.lake = Lake.of(settings)
        self.ledger, self.registry = Ledger(settings.ledger_url), Registry(settings)
        self.timeline = self.timeline_of(self.registry)

    @abstractmethod
    def timeline_of(self, registry: Registry) -> Timeline:
        """Which version serves which day."""

    @abstractmethod
    def rows_of(self, sequences: pl.DataFrame, version: Version, day: Day) -> pl.DataFrame:
        """Rows of the table's contract, one for each user of `sequences`."""

    def facts_of(self, version: Version) -> dict[str, object]:
        """What the ledger keeps of the version that made a day."""
        return {"model_version": version.number, "space_id": version.space_id}

    def serve(self, day: Day, everyone: bool = False) -> ServedDay | None:
        """Replace the day's rows, record it, and push what then stands; None where no version may serve the day."""
        version, is_new = self.timeline.serving(day)
        if version is None:
            self._skip(day)
            return None
        everyone = everyone or self._is_for_everyone(day, is_new)
        rows = self.rows_of(sequences_to_serve(self.lake, day, everyone), version, day)
        upstream = upstream_contents(self.ledger, self.table) | {MODEL: {day.key: str(version.number)}}
        details = self.facts_of(version) | {"everyone": everyone}
        details |= provenance(self.table, day.key, rows, upstream, self.settings)
        committed = self.replace(self.table, day, rows, details)
        standing = self.lake.current(self.table, day, day).collect()
        pushed = push_online(self.settings, self.table.name, standing).accepted if self.push else 0
        return ServedDay(version, everyone, rows, standing, committed.changed, pushed)

    def draft(self, day: Day, sequences: pl.DataFrame | None) -> pl.DataFrame:
        """What a day would hold, from these sequences or those that stand. Nothing is written."""
        version, is_new = self.timeline.serving(day)
        if version is None:
            return self.table.empty()
        everyone = self._is_for_everyone(day, is_new)
        return self.rows_of(sequences_to_serve(self.lake, day, everyone, sequences), version, day)

    def replace(self, table: Table, day: Day, rows: pl.DataFrame, details: dict) -> Committed:
        """Replace one day of a table and record it; an unchanged day keeps its line in the ledger."""
        record = PartitionRecord(
            table_name=table.name,
            partition=day.key,
            state="published" if rows.height else "empty",
            counts={"rows": rows.height},
            details=details,
            run_key=run_key_of(table.name, day.start),
            written_at=self.known_at,
        )
        catch_up(self.lake, self.ledger, table)
        committed = self.lake.replace(table, day, rows, note_of([record]), self.known_at)
        standing = self.ledger.partition(table.name, day.key)
        said = record.state, record.counts, record.details
        if committed.changed or standing is None or (standing.state, standing.counts, standing.details) != said:
            self.ledger.record_partition(record.model_copy(update={"version": committed.version}))
        return committed

    def days_behind(self, day: Day) -> list[Day]:
        """Later days that do not follow from the sequences that stand."""
        return days_behind_their_sequences(self.lake, self.ledger, self.table, day)

    def days_of_another_version(self) -> list[Day]:
        """The days that were written, or skipped, when another version served them than does now; in order."""
        found = []
        for line in self.ledger.partitions(self.table.name):
            version, is_new = self.timeline.serving(Day.parse(line.partition))
            missing_somebody = is_new and not line.details.get("everyone")
            if line.details.get("model_version") != (version and version.number) or missing_somebody:
                found.append(Day.parse(line.partition))
        return sorted(found)

    def push_present(self, pushed: Collection[Day]) -> None:
        """Push the days of the version that serves the newest one; everybody has a row on one of them."""
        first, present = None, None
        for day in sorted(self.lake.days(self.table), reverse=True):
            version = self.timeline.at(day.start)
            present = present or version
            if version is None or version.number != present.number:
                break
            first = day
        if first is not None:
            self.push_since(first, pushed)

    def push_since(self, day: Day, pushed: Collection[Day]) -> None:
        """Push every user's newest row of the days from `day` on, unless this run has pushed all these days."""
        for table in (self.table, *self.beside) if self.push else ():
            others = [other for other in self.lake.days(table) if other >= day and other not in pushed]
            if others:
                for rows in newest_rows(self.lake, table, "user_id", max(others), since=day):
                    push_online(self.settings, table.name, rows)

    def _is_for_everyone(self, day: Day, is_new: bool) -> bool:
        """Whether a day holds everybody: on the first day of another version, and where it did so before.

        What was pushed online must not vanish from the table behind it.
        """
        line = self.ledger.partition(self.table.name, day.key)
        return is_new or bool(line and line.details.get("everyone"))

    def _skip(self, day: Day) -> None:
        """Record that no promoted version may serve the day; that is a state, not a failure."""
        standing = self.ledger.partition(self.table.name, day.key)
        if standing is None or standing.state != "skipped":
            self.ledger.record_partition(
                PartitionRecord(
                    table_name=self.table.name,
                    partition=day.key,
                    state="skipped",
                    details={"reason": NO_MODEL_YET},
                    run_key=run_key_of(self.table.name, day.start),
                    written_at=self.known_at,
                )
            )
