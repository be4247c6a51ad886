"""
Days of a table that together do not fit into memory: files that take the place of those days in one commit.

A crash before the commit leaves files that no version names; a vacuum takes them away.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import polars as pl
from deltalake import CommitProperties, write_deltalake
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction

from pipeline.contracts import PARTITION_COLUMN, Table
from pipeline.errors import EngineFailure
from pipeline.partitions import Day
from pipeline.stores.laid_rows import LaidRows
from pipeline.stores.row_groups import write_in_groups
from pipeline.stores.tables import Committed, Lake, kept_out_of_the_log


def replace_days(
    lake: Lake,
    table: Table,
    days: Iterable[Day],
    laid: LaidRows,
    note: Mapping[str, str],
    known_at: datetime,
) -> Committed:
    """Make what was laid by for each day its whole content; all days in one commit.

    The same as `Lake.replace_range` of them all, in the memory of one day. A day that stays as it is, is not written; a
    day that the table does not hold takes the files as they are.

    Args:
        note: what the commit says of itself.

    Raises:
        EngineFailure: another writer won the commit. Worth a retry.
    """
    added: list[AddAction] = []
    replaced: list[str] = []
    rows = erased = 0
    standing = set(lake.days(table))
    with lake.erasures.read_once() if lake.erasures else nullcontext():
        for day in days:
            files = laid.files(table, day)
            if day not in standing and not _names_erased(lake, table, files):
                taken = [_take(lake, table, day, file, known_at) for file in files]
                rows += sum(count for _, count in taken)
                added += [action for action, _ in taken]
                replaced += [day.key] if taken else []
                continue
            settled = lake.settled(table, day, day, laid.read(table, day), is_empty=day not in standing)
            wanted = settled.rows
            rows, erased = rows + wanted.height, erased + settled.erased
            if settled.stands:
                continue
            lake.keep_withdrawn(table, settled.withdrawn, known_at)
            replaced.append(day.key)
            if wanted.height:
                added.append(_write(lake, table, day, wanted.drop(PARTITION_COLUMN), known_at))
    facts = {"contract": table.version, **note}
    if not lake.exists(table):
        _create(lake, table)
    if not replaced:
        return Committed(lake.open(table).version(), rows, changed=False, erased=erased)
    predicate = f"{PARTITION_COLUMN} >= '{min(replaced)}' AND {PARTITION_COLUMN} <= '{max(replaced)}'"
    told = {"mode": "Overwrite", "predicate": predicate}
    delta = lake.open(table)
    try:
        delta.create_write_transaction(
            added,
            mode="overwrite",
            schema=delta.schema(),
            partition_by=[PARTITION_COLUMN],
            partition_filters=[(PARTITION_COLUMN, "in", replaced)],
            commit_properties=CommitProperties(custom_metadata={**facts, "operationParameters": told}),
        )
    except CommitFailedError as error:
        raise EngineFailure(
            f"{table.name}: another writer won the commit. Nothing was written; run the range again."
        ) from error
    return Committed(lake.open(table).version(), rows, changed=True, erased=erased)


def _names_erased(lake: Lake, table: Table, files: Sequence[Path]) -> bool:
    """Whether a file has a row of an erased user, who then has to be taken out first."""
    if lake.erasures is None or not files or lake.erasures.is_empty():
        return False
    return lake.erasures.erased_rows(table, pl.read_parquet(files, hive_partitioning=False)).any()


def _take(lake: Lake, table: Table, day: Day, file: Path, known_at: datetime) -> tuple[AddAction, int]:
    """Move a file to its day as it is; with the number of its rows."""
    from pyarrow.parquet import read_metadata

    count, place = read_metadata(file).num_rows, _place(day)
    if "://" in lake.url:
        rows = pl.read_parquet(file, hive_partitioning=False)
        size = write_in_groups(rows, f"{lake.path(table)}/{place}", lake.storage_options)
    else:
        target, size = Path(lake.path(table), place), file.stat().st_size
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(file, target)
    return _added(day, place, size, count, known_at), count


def _write(lake: Lake, table: Table, day: Day, rows: pl.DataFrame, known_at: datetime) -> AddAction:
    place = _place(day)
    size = write_in_groups(rows, f"{lake.path(table)}/{place}", lake.storage_options)
    return _added(day, place, size, rows.height, known_at)


def _place(day: Day) -> str:
    return f"{PARTITION_COLUMN}={day.key}/part-{uuid4()}.parquet"


def _added(day: Day, place: str, size: int, rows: int, known_at: datetime) -> AddAction:
    return AddAction(
        path=place,
        size=size,
        partition_values={PARTITION_COLUMN: day.key},
        modification_time=int(known_at.timestamp() * 1000),
        data_change=True,
        stats=json.dumps({"numRecords": rows}),
    )


def _create(lake: Lake, table: Table) -> None:
    nothing = table.empty().with_columns(pl.lit("").alias(PARTITION_COLUMN)).to_arrow()
    write_deltalake(
        lake.path(table), nothing, partition_by=[PARTITION_COLUMN], storage_options=lake.storage_options,
        configuration=kept_out_of_the_log(table),
    )
