"""The lines that the ledger, and the commit, get about days of features: rows, events, and what they were made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

from pipeline.backfill.content import contents_by_day
from pipeline.contracts import PARTITION_COLUMN, Table
from pipeline.partitions import Day, run_key_of
from pipeline.settings import Settings
from pipeline.steps.provenance import catalogue_of, day_before_of, provenance, upstream_contents
from pipeline.stores.ledger import Ledger, PartitionRecord
from pipeline.stores.tables import Committed, Lake


def lines_of(
    settings: Settings,
    ledger: Ledger,
    table: Table,
    days: Sequence[Day],
    later: Sequence[str],
    rows: pl.DataFrame,
    events: pl.DataFrame,
    known_at: datetime,
) -> list[PartitionRecord]:
    """A line for every day that was built, and for each later one of which rows were restated.

    A later day keeps what its line says of its events and of what it was made from: only its rows are others.

    Args:
        rows: everything that the days and the later ones hold now, with the partition column.
        events: those of `days`.
    """
    heights = dict(rows.group_by(PARTITION_COLUMN).len().iter_rows())
    by_day = dict(events.group_by(pl.col("event_time").dt.date().cast(pl.String)).len().iter_rows())
    return lines_from(settings, ledger, table, days, later, heights, contents_by_day(table, rows), by_day, known_at)


def lines_from(
    settings: Settings,
    ledger: Ledger,
    table: Table,
    days: Sequence[Day],
    later: Sequence[str],
    heights: Mapping[str, int],
    contents: Mapping[str, str],
    by_day: Mapping[str, int],
    known_at: datetime,
) -> list[PartitionRecord]:
    """The same from what is known of the rows: their number and their content by day, and the events by day."""
    keys = [*(day.key for day in days), *later]
    within = (min(keys), max(keys))
    events = upstream_contents(ledger, table, (Day.parse(min(keys)).plus(-1).key, max(keys)))
    upstream = events | day_before_of(events, table, settings) | catalogue_of(Lake.of(settings), table, keys)
    standing = {line.partition: line for line in ledger.partitions(table.name, within)} if later else {}
    nothing = table.empty().with_columns(pl.lit("").alias(PARTITION_COLUMN))
    empty = provenance(table, days[0].key, nothing, upstream, settings)
    lines = []
    for key in keys:
        content = contents.get(key, empty["content"])
        counts = {"rows": heights.get(key, 0)}
        if key in later and key in standing:
            counts, details = standing[key].counts | counts, standing[key].details | {"content": content}
        else:
            counts |= {"events": by_day.get(key, 0)} if key not in later else {}
            made_from = {name: contents.get(key, "") for name, contents in upstream.items()}
            details = empty | {"content": content, "upstream": made_from}
        lines.append(
            PartitionRecord(
                table_name=table.name,
                partition=key,
                state="published" if counts["rows"] else "empty",
                counts=counts,
                details=details,
                run_key=run_key_of(table.name, Day.parse(key).start),
                written_at=known_at,
            )
        )
    return lines


def fresh_lines(ledger: Ledger, table: Table, lines: Sequence[PartitionRecord], committed: Committed) -> list:
    """The lines to write: a day that has not changed keeps its line, unless it was made from or by something else."""
    standing: dict[str, tuple] = {}
    if not committed.changed:
        keys = [line.partition for line in lines]
        found = ledger.partitions(table.name, (min(keys), max(keys)))
        standing = {line.partition: (line.state, line.counts, line.details) for line in found}
    return [
        line.model_copy(update={"version": committed.version})
        for line in lines
        if committed.changed or standing.get(line.partition) != (line.state, line.counts, line.details)
    ]
