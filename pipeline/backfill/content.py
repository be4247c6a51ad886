"""A name for what rows say: the same whenever and in whatever order they were written."""

from __future__ import annotations

import polars as pl

from pipeline.contracts import PARTITION_COLUMN, Table

CLOCKS = ("created", "ingested_at")
"""Columns that say when a row was written or arrived, not what it says."""
SEEDS = (1, 2)


def content_of(table: Table, rows: pl.DataFrame) -> str:
    """A digest of the rows of one partition: one row a key, in any order, `created` left out."""
    said = rows.select(name for name in table.names if name not in CLOCKS)
    sums = [int(said.hash_rows(seed).sum() or 0) for seed in SEEDS]
    return f"{said.height}-" + "".join(f"{value & (1 << 64) - 1:016x}" for value in sums)


def contents_by_day(table: Table, rows: pl.DataFrame) -> dict[str, str]:
    """The digest of every day in `rows`, which have the partition column."""
    parts = rows.partition_by(PARTITION_COLUMN, as_dict=True, include_key=False)
    return {key: content_of(table, part) for (key,), part in parts.items()}
