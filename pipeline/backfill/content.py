"""A name for what rows say: the same whenever and in whatever order they were written."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from pipeline.contracts import PARTITION_COLUMN, Table

CLOCKS = ("created", "ingested_at")
"""Columns that say when a row was written or arrived, not what it says."""
SEEDS = (1, 2)


def content_of(table: Table, rows: pl.DataFrame) -> str:
    """A digest of the rows of one partition: one row a key, in any order, `created` left out."""
    said = rows.select(name for name in table.names if name not in CLOCKS)
    return _named(said.height, _sums(said))


def _sums(rows: pl.DataFrame) -> list[int]:
    return [int(rows.hash_rows(seed).sum() or 0) for seed in SEEDS]


def _named(height: int, sums: list[int]) -> str:
    return f"{height}-" + "".join(f"{value & (1 << 64) - 1:016x}" for value in sums)


def contents_by_day(table: Table, rows: pl.DataFrame) -> dict[str, str]:
    """The digest of every day in `rows`, which have the partition column."""
    parts = rows.partition_by(PARTITION_COLUMN, as_dict=True, include_key=False)
    return {key: content_of(table, part) for (key,), part in parts.items()}


def catalogue_by_day(items: pl.DataFrame, keys: Iterable[str]) -> dict[str, str]:
    """By day, the digest of the categories that the catalogue knew by its end; empty while it knew none.

    A title is not part of it: no daily table is made from titles.
    """
    said = items.select("item_id", "categories", "valid_from", since=pl.col("valid_from").dt.date().cast(pl.String))
    parts = sorted(said.partition_by("since", as_dict=True, include_key=False).items())
    found, height, sums = {}, 0, [0] * len(SEEDS)
    for key in sorted(set(keys)):
        while parts and parts[0][0][0] <= key:
            part = parts.pop(0)[1]
            height, sums = height + part.height, [a + b for a, b in zip(sums, _sums(part), strict=True)]
        found[key] = _named(height, sums) if height else ""
    return found
