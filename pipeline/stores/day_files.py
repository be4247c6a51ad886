"""
Days of a table that together do not fit into memory: a file a day, written one after the other, seen in one commit.

A crash before the commit leaves files that no version names; a vacuum takes them away.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
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
from pipeline.stores.tables import ROWS_A_GROUP, Committed, Lake, kept_out_of_the_log


def replace_days(
    lake: Lake,
    table: Table,
    days: Iterable[tuple[Day, pl.DataFrame]],
    note: Callable[[], dict[str, str]],
    known_at: datetime,
) -> Committed:
    """Make each frame (with the partition column) the whole content of its day; all days in one commit.

    The same as `Lake.replace_range` of them all, in the memory of one day. A day that stays as it is, is not written.

    Args:
        note: asked for the commit's note when all days are written.

    Raises:
        ContractViolation: a frame does not fit. Nothing is seen of what was written before.
        EngineFailure: another writer won the commit. Worth a retry.
    """
    added: list[AddAction] = []
    replaced: list[str] = []
    rows = erased = 0
    standing = set(lake.days(table))
    with lake.erasures.read_once() if lake.erasures else nullcontext():
        for day, frame in days:
            settled = lake.settled(table, day, day, frame, is_empty=day not in standing)
            wanted = settled.rows
            rows, erased = rows + wanted.height, erased + settled.erased
            if settled.stands:
                continue
            lake.keep_withdrawn(table, settled.withdrawn, known_at)
            replaced.append(day.key)
            if wanted.height:
                added.append(_write(lake, table, day, wanted.drop(PARTITION_COLUMN), known_at))
    facts = {"contract": table.version, **note()}
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


def _write(lake: Lake, table: Table, day: Day, rows: pl.DataFrame, known_at: datetime) -> AddAction:
    place = f"{PARTITION_COLUMN}={day.key}/part-{uuid4()}.parquet"
    target = f"{lake.path(table)}/{place}"
    if "://" not in target:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
    size = _size_of(lake, rows, target)
    return AddAction(
        path=place,
        size=size,
        partition_values={PARTITION_COLUMN: day.key},
        modification_time=int(known_at.timestamp() * 1000),
        data_change=True,
        stats=json.dumps({"numRecords": rows.height}),
    )


def _size_of(lake: Lake, rows: pl.DataFrame, target: str) -> int:
    """Write, and say how many bytes it became."""
    if "://" not in target:
        rows.write_parquet(target, compression="snappy", statistics=True, row_group_size=ROWS_A_GROUP)
        return Path(target).stat().st_size
    from io import BytesIO

    buffer = BytesIO()
    rows.write_parquet(buffer, compression="snappy", row_group_size=ROWS_A_GROUP)
    size = buffer.tell()
    rows.write_parquet(
        target, compression="snappy", row_group_size=ROWS_A_GROUP, storage_options=lake.storage_options
    )
    return size


def _create(lake: Lake, table: Table) -> None:
    nothing = table.empty().with_columns(pl.lit("").alias(PARTITION_COLUMN)).to_arrow()
    write_deltalake(
        lake.path(table), nothing, partition_by=[PARTITION_COLUMN], storage_options=lake.storage_options,
        configuration=kept_out_of_the_log(table),
    )
