"""
Single rows out of daily tables: of the files of a day, only the groups of rows are read that can hold a wanted user.

Rows lie by user within a day, in small groups, and a Parquet file says of each group who is first and last in it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

import polars as pl
import pyarrow as pa

from pipeline.contracts import PARTITION_COLUMN, Table
from pipeline.partitions import Day
from pipeline.stores.row_groups import ROWS_A_GROUP
from pipeline.stores.row_versions import newest_versions
from pipeline.stores.tables import Lake

USER, TIME = "user_id", "event_timestamp"
ROWS_AT_ONCE = 5_000
"""So many rows are in memory before the wanted ones are taken out of them."""


def rows_at(lake: Lake, table: Table, keys: pl.DataFrame) -> pl.DataFrame:
    """The newest version of each row that `keys` (user_id, event_timestamp) name."""
    if keys.is_empty() or not lake.exists(table):
        return table.empty()
    rows_there = pl.DataFrame(lake.open(table).get_add_actions(flatten=True))["num_records"].sum()
    if keys.height * ROWS_A_GROUP > rows_there:  # nearly every group holds one
        found = lake.scan(table, Day.of(keys[TIME].min()), Day.of(keys[TIME].max()))
        return newest_versions(table, found.join(keys.lazy(), on=[USER, TIME], how="semi")).collect()
    days = keys.with_columns(pl.col(TIME).dt.date().cast(pl.String).alias(PARTITION_COLUMN))
    users = {day: sorted(rows[USER]) for (day,), rows in days.partition_by(PARTITION_COLUMN, as_dict=True).items()}
    parts, waiting = [table.empty()], []
    for group in _groups(lake, table, users):
        waiting.append(group)
        if sum(other.num_rows for other in waiting) > ROWS_AT_ONCE:
            parts.append(_named(table, waiting, keys))
            waiting = []
    parts += [_named(table, waiting, keys)] if waiting else []
    return newest_versions(table, pl.concat(parts).lazy()).collect()


def _named(table: Table, groups: Sequence[pa.Table], keys: pl.DataFrame) -> pl.DataFrame:
    read = pl.DataFrame(_Arrow(pa.concat_tables(groups, promote_options="permissive")))
    rows = read.lazy().select(pl.col(name).cast(dtype) for name, dtype in table.schema.items())
    return rows.join(keys.lazy(), on=[USER, TIME], how="semi").collect()


def _groups(lake: Lake, table: Table, users: Mapping[str, Sequence[str]]) -> Iterator[pa.Table]:
    """What may hold the users of each day, who are in order."""
    from pyarrow.parquet import ParquetFile

    delta, filesystem = lake.open(table), None
    if "://" in lake.url:
        from deltalake.fs import DeltaStorageHandler
        from pyarrow.fs import PyFileSystem

        filesystem = PyFileSystem(DeltaStorageHandler.from_table(delta._table))
    for uri in delta.file_uris():
        day = uri.rpartition(f"{PARTITION_COLUMN}=")[2]
        wanted = users.get(day.partition("/")[0])
        if not wanted:
            continue
        with ParquetFile(f"{PARTITION_COLUMN}={day}" if filesystem else uri, filesystem=filesystem) as file:
            told, place = file.metadata, file.schema_arrow.names.index(USER)
            numbers = [n for n in range(told.num_row_groups) if _may_hold(told.row_group(n).column(place), wanted)]
            if numbers:
                yield file.read_row_groups(numbers, columns=table.names, use_threads=False)


def _may_hold(column, wanted: Sequence[str]) -> bool:
    told = column.statistics
    if told is None or not told.has_min_max:
        return True
    first = bisect_left(wanted, told.min)
    return first < len(wanted) and wanted[first] <= told.max


class _Arrow:
    """Hands a table over without the modules that Polars loads to look at a pyarrow one."""

    def __init__(self, table: pa.Table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)
