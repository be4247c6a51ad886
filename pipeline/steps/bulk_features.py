"""
Many days of features in bounded memory: rows are made by buckets of users, laid by in files, and written by days.

What makes the rows of a bucket is this machine or Spark; both call the same functions and both leave the same files:
`<scratch>/<table>/bucket=<any>/event_date=<day>/`, as Parquet by Spark and as Arrow by this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import polars as pl

from pipeline.backfill.content import content_of
from pipeline.contracts import PARTITION_COLUMN, SEQUENCE_FEATURES, Table
from pipeline.features.buckets import buckets_within, in_buckets
from pipeline.observability import get_logger
from pipeline.partitions import Day, run_key_of
from pipeline.settings import Settings
from pipeline.steps.feature_lines import fresh_lines, lines_from
from pipeline.steps.feature_state import BuiltFeatures, Extend, events_of, newest_before, stamped
from pipeline.stores.day_files import replace_days
from pipeline.stores.ledger import Ledger, PartitionRecord, note_of
from pipeline.stores.tables import Committed, Lake

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = get_logger(__name__)

RowsOf = Callable[[Table, pl.DataFrame], pl.DataFrame]
"""(table, whole days of events of some users) -> their rows, with `created` and the partition column."""


@dataclass(frozen=True)
class BulkWritten:
    """One table after its commit, and the ledger's lines of its days."""

    committed: Committed
    lines: tuple[PartitionRecord, ...]


def build_in_bulk(
    settings: Settings,
    lake: Lake,
    definitions: dict[Table, Extend],
    days: list[Day],
    known_at: datetime,
    session: SparkSession | None = None,
) -> BuiltFeatures | None:
    """The days built by Spark or in buckets, where they do not fit the memory budget; None where they do.

    Also None where later days stand: what follows from a restated range is told from its rows, in memory.

    Args:
        session: Spark's, where the caller has begun one.
    """
    first, last = days[0], days[-1]
    later = any(day > last for table in definitions for day in lake.days(table))
    events, spark = events_of(lake, first, last), settings.features.engine == "spark"
    num = buckets_within(settings.features.memory_budget_mb, events, settings.features.sequence_length)
    if later or (num == 1 and not spark):
        return None
    ledger = Ledger(settings.ledger_url)
    place = settings.features.spark_scratch if spark else ""
    with TemporaryDirectory(prefix="features-", dir=place or settings.place("")) as scratch:
        if spark:
            from pipeline.steps.spark_features import lay_by_in_spark

            lay_by_in_spark(settings, lake, first, last, known_at, Path(scratch), session)
        else:
            lay_by(tuple(definitions), _rows_of(lake, definitions, first, known_at), events, num, Path(scratch))
        by_day = events_by_day(events)
        written = {
            table: write_by_day(settings, lake, ledger, table, days, by_day, Path(scratch), known_at)
            for table in definitions
        }
    parts = written.items()
    ledger.record_partitions([line for t, p in parts for line in fresh_lines(ledger, t, p.lines, p.committed)])
    built = BuiltFeatures(
        first=first.key,
        last=last.key,
        events=sum(by_day.values()),
        users=events.select(pl.col("user_id").n_unique()).collect(engine="streaming").item(),
        rows=sum(line.counts["rows"] for line in written[SEQUENCE_FEATURES].lines),
        later_rows=0,
        changed=any(part.committed.changed for part in written.values()),
        versions={table.name: part.committed.version for table, part in written.items()},
    )
    log.info("features built", buckets=num, engine=settings.features.engine, **built.model_dump())
    return built


def _rows_of(lake: Lake, definitions: dict[Table, Extend], first: Day, known_at: datetime) -> RowsOf:
    def rows_of(table: Table, events: pl.DataFrame) -> pl.DataFrame:
        before = newest_before(lake, table, events.select("user_id").unique(), first)
        return stamped(table, definitions[table](before, events), known_at)

    return rows_of


def lay_by(tables: Sequence[Table], rows_of: RowsOf, events: pl.LazyFrame, num: int, scratch: Path) -> None:
    """Make the rows bucket by bucket, and leave them in `scratch` by table and day."""
    for number, bucket in enumerate(in_buckets(events, num, scratch / "events")):
        for table in tables:
            place = pl.PartitionBy(scratch / table.name / f"bucket={number}", key=PARTITION_COLUMN, include_key=False)
            rows_of(table, bucket).lazy().sink_ipc(place, mkdir=True, compression="lz4")


def write_by_day(
    settings: Settings,
    lake: Lake,
    ledger: Ledger,
    table: Table,
    days: Sequence[Day],
    events_by_day: dict[str, int],
    scratch: Path,
    known_at: datetime,
) -> BulkWritten:
    """Replace the days by what was laid by, one in memory at a time, in one commit that carries its ledger lines."""
    heights: dict[str, int] = {}
    contents: dict[str, str] = {}
    lines: list[PartitionRecord] = []

    def frames() -> Iterator[tuple[Day, pl.DataFrame]]:
        for day in days:
            rows = _laid_by(table, day, scratch)
            heights[day.key], contents[day.key] = rows.height, content_of(table, rows)
            yield day, rows

    def note() -> dict[str, str]:
        lines.extend(lines_from(settings, ledger, table, days, (), heights, contents, events_by_day, known_at))
        return {"run": run_key_of(table.name, days[0].start), **note_of(lines)}

    return BulkWritten(committed=replace_days(lake, table, frames(), note, known_at), lines=tuple(lines))


def events_by_day(events: pl.LazyFrame) -> dict[str, int]:
    """How many events each day has."""
    counted = events.group_by(pl.col("event_time").dt.date().cast(pl.String)).len()
    return dict(counted.collect(engine="streaming").iter_rows())


def _laid_by(table: Table, day: Day, scratch: Path) -> pl.DataFrame:
    files = sorted((scratch / table.name).glob(f"bucket=*/{PARTITION_COLUMN}={day.key}/*.*"))
    key = pl.lit(day.key).alias(PARTITION_COLUMN)
    if not files:
        return table.empty().with_columns(key)
    rows = pl.concat(
        [pl.read_parquet(file, hive_partitioning=False) if file.suffix == ".parquet" else pl.read_ipc(file)
         for file in files if not file.name.startswith((".", "_"))]
    )
    return rows.select(*(pl.col(name).cast(dtype) for name, dtype in table.schema.items()), key)
