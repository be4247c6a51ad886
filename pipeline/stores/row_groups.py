"""Parquet files in small groups of rows, so that a user's row is found without reading the whole file."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import polars as pl

ROWS_A_GROUP = 256
GROUP = "group"


def write_in_groups(rows: pl.DataFrame, target: str, storage_options: dict[str, str] | None = None) -> int:
    """Write a file, on this machine or at a URL, and say how many bytes it has."""
    numbered = rows.with_columns((pl.int_range(pl.len()) // ROWS_A_GROUP).alias(GROUP))
    groups = numbered.partition_by(GROUP, maintain_order=True, include_key=False)
    return _write(groups or [rows], target, storage_options)


def write_files_in_groups(rows: pl.DataFrame, by: str, target: Callable[[str], str]) -> None:
    """Write the rows of each value of a column, which the files leave out, into a file of this machine."""
    numbered = rows.with_columns((pl.int_range(pl.len()).over(by) // ROWS_A_GROUP).alias(GROUP))
    files: dict[str, list[pl.DataFrame]] = {}
    for (value, _), group in numbered.partition_by(by, GROUP, as_dict=True, include_key=False).items():
        files.setdefault(value, []).append(group)
    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
        list(pool.map(_write, files.values(), map(target, files)))


def _write(groups: list[pl.DataFrame], target: str, storage_options: dict[str, str] | None = None) -> int:
    """Each group lies by itself in memory: for a slice of a list column Polars walks through all of it."""
    rows = pl.concat(groups, rechunk=False)
    options = {"compression": "snappy", "statistics": True, "row_group_size": ROWS_A_GROUP}
    if "://" not in target:
        rows.write_parquet(target, mkdir=True, **options)
        return Path(target).stat().st_size
    buffer = BytesIO()
    rows.write_parquet(buffer, **options)
    rows.write_parquet(target, storage_options=storage_options, **options)
    return buffer.tell()
