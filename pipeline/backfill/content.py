"""A name for what rows say: the same whenever and in whatever order they were written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from pipeline.contracts import PARTITION_COLUMN, Table

CLOCKS = ("created", "ingested_at")
"""Columns that say when a row was written or arrived, not what it says."""
SEEDS = (1, 2)


@dataclass(frozen=True)
class Content:
    """What some rows say, in a form that adds up: of two parts of a partition the sum is that of the whole."""

    rows: int = 0
    sums: tuple[int, ...] = (0,) * len(SEEDS)

    def __add__(self, other: Content) -> Content:
        return Content(self.rows + other.rows, tuple(a + b for a, b in zip(self.sums, other.sums, strict=True)))

    @property
    def digest(self) -> str:
        return f"{self.rows}-" + "".join(f"{value & (1 << 64) - 1:016x}" for value in self.sums)


def content_of(table: Table, rows: pl.DataFrame) -> str:
    """A digest of the rows of one partition: one row a key, in any order, `created` left out."""
    return _content(_said(table, rows)).digest


def content_by_day(table: Table, rows: pl.DataFrame) -> dict[str, Content]:
    """The content of every day in `rows`, which have the partition column."""
    said = _said(table, rows)
    hashes = pl.DataFrame({PARTITION_COLUMN: rows[PARTITION_COLUMN]} | {str(s): said.hash_rows(s) for s in SEEDS})
    by_day = hashes.group_by(PARTITION_COLUMN).agg(pl.len(), pl.col([str(seed) for seed in SEEDS]).sum())
    return {key: Content(height, tuple(sums)) for key, height, *sums in by_day.iter_rows()}


def contents_by_day(table: Table, rows: pl.DataFrame) -> dict[str, str]:
    """The digest of every day in `rows`, which have the partition column."""
    return {key: content.digest for key, content in content_by_day(table, rows).items()}


def catalogue_by_day(items: pl.DataFrame, keys: Iterable[str]) -> dict[str, str]:
    """By day, the digest of the categories that the catalogue knew by its end; empty while it knew none.

    A title is not part of it: no daily table is made from titles.
    """
    said = items.select("item_id", "categories", "valid_from", since=pl.col("valid_from").dt.date().cast(pl.String))
    parts = sorted(said.partition_by("since", as_dict=True, include_key=False).items())
    found, content = {}, Content()
    for key in sorted(set(keys)):
        while parts and parts[0][0][0] <= key:
            content += _content(parts.pop(0)[1])
        found[key] = content.digest if content.rows else ""
    return found


def _said(table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(name for name in table.names if name not in CLOCKS)


def _content(rows: pl.DataFrame) -> Content:
    return Content(rows.height, tuple(int(rows.hash_rows(seed).sum() or 0) for seed in SEEDS))
