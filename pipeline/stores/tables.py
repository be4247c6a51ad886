"""
The lake: Delta tables, one partition a UTC day, replaced whole in one commit.

A reader sees the old partition or the new one, never a mix. A partition whose content would not
change is not written again, so a second run leaves the same version and the same `created`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import polars as pl
from deltalake import CommitProperties, DeltaTable, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from pipeline.contracts import PARTITION_COLUMN, WITHDRAWN_AT, Table, withdrawn_rows_of
from pipeline.errors import EngineFailure
from pipeline.faults import reach
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.stores.commits import Commit, Committed, Erasures, Settled
from pipeline.stores.fitting import check_columns
from pipeline.stores.row_groups import ROWS_A_GROUP
from pipeline.stores.row_versions import newest_versions, rows_withdrawn, same_rows, with_corrections

COMMIT_TRIES = 8
DELTAS_OWN = ("timestamp", "version", "operation", "engine", "client", "readVersion", "isolationLevel", "isBlindAppend")
"""How the fields begin that Delta itself writes into a commit; the others are its writer's note."""


class Lake:
    """All Delta tables below one folder or object-store URL. With `erasures`, no write brings back who was erased."""

    def __init__(self, url: str, storage_options: dict[str, str] | None = None, erasures: Erasures | None = None):
        self.url = url.rstrip("/")
        self.storage_options = storage_options or {}
        self.erasures = erasures

    @classmethod
    def of(cls, settings: Settings) -> Lake:
        """The lake that the settings name."""
        from pipeline.stores.tombstones import Tombstones  # stands on this file itself

        return cls(settings.lake_url, settings.stores.storage_options, Tombstones.of(settings))

    def path(self, table: Table) -> str:
        return f"{self.url}/{table.name}"

    def exists(self, table: Table) -> bool:
        return DeltaTable.is_deltatable(self.path(table), storage_options=self.storage_options)

    def version(self, table: Table) -> int | None:
        """The newest committed version; None where the table does not exist."""
        return self._open(table).version() if self.exists(table) else None

    def file_uris(self, table: Table) -> list[str]:
        """The live files, for readers that speak Parquet only."""
        return self._open(table).file_uris() if self.exists(table) else []

    def days(self, table: Table) -> list[Day]:
        """The days that hold rows, in order. Read from the commit log, not from the data."""
        if not self.exists(table):
            return []
        partitions = self._open(table).partitions()
        return sorted({Day.parse(str(partition[PARTITION_COLUMN])) for partition in partitions})

    def stored_schema(self, table: Table) -> dict[str, pl.DataType]:
        """The columns and types that the table has on disk, whatever its contract says."""
        return dict(pl.scan_delta(self.path(table), storage_options=self.storage_options or None).collect_schema())

    def rows_by_day(self, table: Table) -> dict[Day, int]:
        """How many rows each day holds."""
        if not self.exists(table):
            return {}
        frame = pl.scan_delta(self.path(table), storage_options=self.storage_options or None)
        counted = frame.group_by(PARTITION_COLUMN).len().sort(PARTITION_COLUMN).collect()
        return {Day.parse(key): rows for key, rows in counted.iter_rows()}

    def commits(self, table: Table, since: int | None = None) -> Iterator[Commit]:
        """The commits that wrote rows, newest first, as far back as Delta keeps its log, or those after a version."""
        opened = self._open(table) if self.exists(table) else None
        newer = None if opened is None or since is None else max(opened.version() - since, 1)
        for entry in opened.history(newer) if opened is not None else ():
            if entry.get("operation") != "WRITE" or (since is not None and entry["version"] <= since):
                continue
            days = re.findall(r"\d{4}-\d{2}-\d{2}", str(entry.get("operationParameters", {}).get("predicate", "")))
            yield Commit(
                version=entry["version"],
                at=datetime.fromtimestamp(entry["timestamp"] / 1000, tz=UTC),
                first=Day.parse(min(days)) if days else None,
                last=Day.parse(max(days)) if days else None,
                note={name: str(value) for name, value in entry.items() if not name.startswith(DELTAS_OWN)},
            )

    def scan(
        self, table: Table, first: Day | None = None, last: Day | None = None, version: int | None = None
    ) -> pl.LazyFrame:
        """The rows of a range of days (both ends included; open where None), in the contract's columns."""
        if not self.exists(table):
            return table.empty().lazy()
        frame = pl.scan_delta(self.path(table), version=version, storage_options=self.storage_options or None)
        if first is not None:
            frame = frame.filter(pl.col(PARTITION_COLUMN) >= first.key)
        if last is not None:
            frame = frame.filter(pl.col(PARTITION_COLUMN) <= last.key)
        return frame.select(pl.col(name).cast(dtype) for name, dtype in table.schema.items())

    def versions_of_rows(self, table: Table) -> pl.LazyFrame:
        """Every row of every day, in the contract's columns and the partition column, in no order."""
        if not self.exists(table):
            return table.empty().with_columns(pl.lit("").alias(PARTITION_COLUMN)).lazy()
        frame = pl.scan_delta(self.path(table), storage_options=self.storage_options or None)
        columns = [pl.col(name).cast(dtype) for name, dtype in table.schema.items()]
        return frame.select(*columns, *([PARTITION_COLUMN] if table.daily else []))

    def read(self, table: Table, day: Day) -> pl.DataFrame:
        """One day as written, in key order; all versions of a row where the table keeps them."""
        return self._in_order(table, self.scan(table, day, day).collect())

    def current(self, table: Table, first: Day | None = None, last: Day | None = None) -> pl.LazyFrame:
        """The newest version of each row of a table that keeps versions."""
        return newest_versions(table, self.scan(table, first, last))

    def replace(
        self,
        table: Table,
        day: Day,
        frame: pl.DataFrame,
        note: dict[str, str] | None = None,
        known_at: datetime | None = None,
    ) -> Committed:
        """Make `frame` the whole content of `day`, in one commit. Raises ContractViolation, EngineFailure."""
        dated = frame.with_columns(pl.lit(day.key).alias(PARTITION_COLUMN))
        return self.replace_range(table, day, day, dated, note, known_at)

    def replace_range(
        self,
        table: Table,
        first: Day,
        last: Day,
        frame: pl.DataFrame,
        note: dict[str, str] | None = None,
        known_at: datetime | None = None,
    ) -> Committed:
        """Make `frame` (with the partition column) the whole content of a range of days, in one commit.

        For a table that keeps versions, rows that are unchanged keep their `created`, and a changed row
        is added beside the one it corrects; a row that is no longer there goes to the withdrawn rows.

        Args:
            known_at: when what the table loses was withdrawn; None for one that keeps no versions.
        """
        settled = self.settled(table, first, last, frame)
        wanted, erased = settled.rows, settled.erased
        if settled.stands:
            return Committed(self._open(table).version(), wanted.height, changed=False, erased=erased)
        self.keep_withdrawn(table, settled.withdrawn, known_at)
        condition = f"{PARTITION_COLUMN} >= '{first.key}' AND {PARTITION_COLUMN} <= '{last.key}'"
        return self._write(table, wanted, condition, note, erased)

    def settled(self, table: Table, first: Day, last: Day, frame: pl.DataFrame, is_empty: bool = False) -> Settled:
        """What a range of days is to hold when `frame` is written.

        With `is_empty` nothing is looked up: the range is known to hold no row. Raises ContractViolation.
        """
        check_columns(table, frame)
        wanted = self._not_erased(table, frame.select([*table.names, PARTITION_COLUMN]))
        erased, wanted = frame.height - wanted.height, wanted.sort([PARTITION_COLUMN, *table.key])
        if is_empty:
            return Settled(wanted, erased, wanted.is_empty() and self.exists(table), wanted.clear())
        standing = self._standing(table, first, last)
        withdrawn = standing.clear()
        if table.keeps_versions and standing.height:
            withdrawn = self._not_erased(table, rows_withdrawn(table, standing, wanted))
            wanted = with_corrections(table, standing, wanted)
        return Settled(wanted, erased, self.exists(table) and same_rows(table, standing, wanted), withdrawn)

    def keep_withdrawn(self, table: Table, rows: pl.DataFrame, known_at: datetime | None) -> None:
        """Keep the rows that a table is about to lose. Safe to repeat, after a write that died before it lost them.

        A row is never withdrawn before it was created, even if the clock of this machine is behind.
        """
        if rows.is_empty() or known_at is None:
            return
        beside, days = withdrawn_rows_of(table), sorted({Day.parse(key) for key in rows[PARTITION_COLUMN]})
        now = pl.lit(known_at).cast(beside.schema[WITHDRAWN_AT])
        fresh = rows.with_columns(pl.max_horizontal(now, "created").alias(WITHDRAWN_AT))
        known = self.versions_of_rows(beside).filter(pl.col(PARTITION_COLUMN).is_in([day.key for day in days]))
        every = pl.concat([known.collect(), fresh.select([*beside.names, PARTITION_COLUMN])])
        self.rewrite_days(beside, days, every.unique(beside.key, keep="last").sort(PARTITION_COLUMN, *beside.key))

    def overwrite(self, table: Table, frame: pl.DataFrame, note: dict[str, str] | None = None) -> Committed:
        """Make `frame` the whole content of a table without days, in one commit."""
        check_columns(table, frame)
        wanted = self._not_erased(table, frame.select(table.names)).sort(table.key)
        if self.exists(table) and same_rows(table, self._in_order(table, self.scan(table).collect()), wanted):
            return Committed(self._open(table).version(), wanted.height, changed=False)
        return self._write(table, wanted, None, note)

    def append(self, table: Table, frame: pl.DataFrame) -> Committed:
        """Add rows to a table without days, in one commit, whatever it holds. For logs: a row is never corrected."""
        check_columns(table, frame)
        wanted = self._not_erased(table, frame.select(table.names))
        return self._write(table, wanted, None, None, frame.height - wanted.height, mode="append")

    def rewrite_days(
        self, table: Table, days: Collection[Day], frame: pl.DataFrame, note: dict[str, str] | None = None
    ) -> Committed:
        """Make `frame`, as it is, the whole content of these days (of the table, where it has no days), in one commit.

        No version of a row is kept that is not in `frame`: for taking out what may not be there.
        """
        check_columns(table, frame)
        names = [*table.names, PARTITION_COLUMN] if table.daily else table.names
        keys = ", ".join(f"'{day.key}'" for day in sorted(days))
        return self._write(table, frame.select(names), f"{PARTITION_COLUMN} IN ({keys})" if table.daily else None, note)

    def _not_erased(self, table: Table, frame: pl.DataFrame) -> pl.DataFrame:
        return frame if self.erasures is None else frame.filter(~self.erasures.erased_rows(table, frame))

    def open(self, table: Table) -> DeltaTable:
        """The newest version, for what only Delta itself does."""
        return self._open(table)

    def _open(self, table: Table) -> DeltaTable:
        return DeltaTable(self.path(table), storage_options=self.storage_options)

    def _standing(self, table: Table, first: Day, last: Day) -> pl.DataFrame:
        if not self.exists(table):
            return table.empty().with_columns(pl.lit("").alias(PARTITION_COLUMN))
        frame = pl.scan_delta(self.path(table), storage_options=self.storage_options or None)
        within = pl.col(PARTITION_COLUMN).is_between(pl.lit(first.key), pl.lit(last.key))
        columns = [pl.col(name).cast(dtype) for name, dtype in table.schema.items()]
        return frame.filter(within).select(*columns, PARTITION_COLUMN).collect().sort([PARTITION_COLUMN, *table.key])

    def _in_order(self, table: Table, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.sort([*table.key, "created"] if table.keeps_versions else list(table.key))

    def _write(
        self,
        table: Table,
        frame: pl.DataFrame,
        condition: str | None,
        note: dict[str, str] | None,
        erased: int = 0,
        mode: Literal["overwrite", "append"] = "overwrite",
    ) -> Committed:
        if "://" not in self.url:
            Path(self.url).mkdir(parents=True, exist_ok=True)
        options = {
            "mode": mode,
            "partition_by": [PARTITION_COLUMN] if table.daily else None,
            "storage_options": self.storage_options,
            "configuration": kept_out_of_the_log(table),
            "writer_properties": writer_properties_of(table),
            "commit_properties": CommitProperties(custom_metadata={"contract": table.version, **(note or {})}),
        }
        rows = frame.to_arrow()
        reach("publish.before_commit")
        for attempt in range(COMMIT_TRIES):
            try:
                if condition is None or not self.exists(table):
                    write_deltalake(self.path(table), rows, **options)
                else:
                    write_deltalake(self.path(table), rows, predicate=condition, **options)
                reach("publish.after_commit")
                return Committed(self._open(table).version(), frame.height, changed=True, erased=erased)
            except (CommitFailedError, TableNotFoundError) as error:
                if attempt == COMMIT_TRIES - 1:
                    raise EngineFailure(
                        f"{table.name}: another writer won the commit {COMMIT_TRIES} times. Nothing was written; "
                        "run the partition again."
                    ) from error
        raise AssertionError("unreachable")


def writer_properties_of(table: Table) -> WriterProperties | None:
    """How rows lie in a table's files, whoever writes them: in small groups where single rows are looked for."""
    return WriterProperties(max_row_group_size=ROWS_A_GROUP) if table.keeps_versions else None


def kept_out_of_the_log(table: Table) -> dict[str, str]:
    """Delta writes the least and greatest value of columns into its log, for ever; of a user it shall not."""
    if not {"user_id", "raw"} & set(table.names):
        return {}
    told = [c.name for c in table.columns if c.dtype != pl.String and not isinstance(c.dtype, pl.List)]
    return {"delta.dataSkippingStatsColumns": ",".join(told)}
