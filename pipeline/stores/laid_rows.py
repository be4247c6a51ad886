"""
Rows on their way to a table that together do not fit into memory: laid by in a scratch folder, part by part, by day.

A part's files are what the table's own are, so that a day which the table does not hold yet takes
them as they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from pipeline.contracts import PARTITION_COLUMN, Table
from pipeline.partitions import Day
from pipeline.stores.fitting import check_columns
from pipeline.stores.row_groups import write_files_in_groups


class LaidRows:
    """Rows of several tables in one folder of this machine."""

    def __init__(self, folder: Path):
        self.folder, self._numbers = folder, itertools.count()

    def lay(self, table: Table, rows: pl.DataFrame) -> None:
        """Add a part: rows of any days, by the table's key and with the partition column, none of which is in another.

        Raises ContractViolation where they do not fit.
        """
        check_columns(table, rows)
        part = self.folder / table.name / f"part={next(self._numbers):06d}"
        rows = rows.select([*table.names, PARTITION_COLUMN])
        write_files_in_groups(rows, PARTITION_COLUMN, lambda day: f"{part}/{PARTITION_COLUMN}={day}/rows.parquet")

    def files(self, table: Table, day: Day) -> Sequence[Path]:
        """What was laid by for a day, a file a part."""
        return sorted((self.folder / table.name).glob(f"part=*/{PARTITION_COLUMN}={day.key}/rows.parquet"))

    def read(self, table: Table, day: Day) -> pl.DataFrame:
        """The rows of a day in the contract's types, with the partition column."""
        parts = [pl.read_parquet(file, hive_partitioning=False) for file in self.files(table, day)]
        rows = pl.concat([part.cast(table.schema) for part in parts]) if parts else table.empty()
        return rows.with_columns(pl.lit(day.key).alias(PARTITION_COLUMN))
