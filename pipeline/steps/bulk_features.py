"""
Many days of features in bounded memory: rows are made by buckets of users, laid by in files, and taken over by days.

What makes the rows of a bucket is this machine or Spark, and both call the same functions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import polars as pl

from pipeline.backfill.content import Content, content_by_day
from pipeline.contracts import SEQUENCE_FEATURES, Table
from pipeline.features.buckets import buckets_within, in_buckets, one_ahead
from pipeline.features.ragged import in_order
from pipeline.observability import get_logger
from pipeline.partitions import Day, run_key_of
from pipeline.settings import Settings
from pipeline.steps.feature_lines import fresh_lines, lines_from
from pipeline.steps.feature_state import BuiltFeatures, Extend, events_of, newest_before, stamped
from pipeline.stores.day_files import replace_days
from pipeline.stores.laid_rows import LaidRows
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
    events, spark = events_of(lake, first, last, settings), settings.features.engine == "spark"
    num = buckets_within(settings.features.memory_budget_mb, events, settings.features.sequence_length)
    if later or (num == 1 and not spark):
        return None
    ledger = Ledger(settings.ledger_url)
    place = settings.features.spark_scratch if spark else ""
    with TemporaryDirectory(prefix="features-", dir=place or settings.place("")) as scratch:
        laid, by_day = LaidRows(Path(scratch, "rows")), events_by_day(events)
        if spark:
            from pipeline.steps.spark_features import parts_by_spark

            parts = parts_by_spark(settings, lake, days, known_at, Path(scratch), session)
        else:
            rows_of = _rows_of(lake, definitions, first, known_at)
            parts = parts_by_bucket(tuple(definitions), rows_of, in_buckets(events, num, Path(scratch, "events")))
        contents = lay_by(laid, one_ahead(parts))
        written = {
            table: write_days(settings, lake, ledger, table, days, laid, contents[table], by_day, known_at)
            for table in definitions
        }
    every = written.items()
    ledger.record_partitions([line for t, p in every for line in fresh_lines(ledger, t, p.lines, p.committed)])
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


def parts_by_bucket(
    tables: Sequence[Table], rows_of: RowsOf, buckets: Iterable[pl.DataFrame]
) -> Iterator[tuple[Table, pl.DataFrame]]:
    """The rows of every table, bucket by bucket."""
    for bucket in buckets:
        ordered = in_order(bucket)
        for table in tables:
            yield table, rows_of(table, ordered)


def lay_by(laid: LaidRows, parts: Iterable[tuple[Table, pl.DataFrame]]) -> dict[Table, dict[str, Content]]:
    """Lay the parts by; what they say, by table and day."""
    contents: dict[Table, dict[str, Content]] = defaultdict(dict)
    for table, rows in parts:
        laid.lay(table, rows)
        for key, content in content_by_day(table, rows).items():
            contents[table][key] = contents[table].get(key, Content()) + content
    return contents


def write_days(
    settings: Settings,
    lake: Lake,
    ledger: Ledger,
    table: Table,
    days: Sequence[Day],
    laid: LaidRows,
    contents: dict[str, Content],
    events_by_day: dict[str, int],
    known_at: datetime,
) -> BulkWritten:
    """Replace the days by what was laid by, in one commit that carries its ledger lines."""
    heights = {key: content.rows for key, content in contents.items()}
    digests = {key: content.digest for key, content in contents.items()}
    lines = lines_from(settings, ledger, table, days, (), heights, digests, events_by_day, known_at)
    note = {"run": run_key_of(table.name, days[0].start), **note_of(lines)}
    return BulkWritten(committed=replace_days(lake, table, days, laid, note, known_at), lines=tuple(lines))


def events_by_day(events: pl.LazyFrame) -> dict[str, int]:
    """How many events each day has."""
    counted = events.group_by(pl.col("event_time").dt.date().cast(pl.String)).len()
    return dict(counted.collect(engine="streaming").iter_rows())
