"""Rows of a table that keeps versions: which is the newest, what a correction adds, whether two contents agree."""

from __future__ import annotations

import polars as pl

from pipeline.contracts import PARTITION_COLUMN, Table


def newest_versions(table: Table, rows: pl.LazyFrame) -> pl.LazyFrame:
    """Of every key of a table that keeps versions, the row created last."""
    return rows.sort([*table.key, "created"]).unique(subset=list(table.key), keep="last", maintain_order=True)


def with_corrections(table: Table, standing: pl.DataFrame, wanted: pl.DataFrame) -> pl.DataFrame:
    """`wanted`, with unchanged rows as they stand and the earlier versions of every key it still holds.

    A row that corrects another is created after it, if only by a microsecond: what was written last is the newest, also
    when a run that began earlier writes later, or the clock of its machine is behind.
    """
    content = [name for name in [*table.names, PARTITION_COLUMN] if name != "created"]
    keys = list(table.key)
    known = standing.join(wanted.select(keys), on=keys, how="semi")
    newest = known.sort([*keys, "created"]).unique(subset=keys, keep="last", maintain_order=True)
    pairs = wanted.join(newest, on=keys, how="left", suffix="_standing", maintain_order="left")
    differs = [pl.col(name).ne_missing(pl.col(f"{name}_standing")) for name in content if name not in keys]
    is_fresh = pl.col("created_standing").is_null() | pl.any_horizontal(differs)
    a_moment_later = pl.col("created_standing") + pl.duration(microseconds=1)
    fresh = pairs.filter(is_fresh).with_columns(created=pl.max_horizontal("created", a_moment_later))
    return pl.concat([known, fresh.select(known.columns)]).sort([PARTITION_COLUMN, *keys, "created"])


def rows_withdrawn(table: Table, standing: pl.DataFrame, wanted: pl.DataFrame) -> pl.DataFrame:
    """Every version of the keys that stand and are wanted no more."""
    return standing.join(wanted.select(table.key), on=list(table.key), how="anti")


def same_rows(table: Table, standing: pl.DataFrame, wanted: pl.DataFrame) -> bool:
    """Whether two contents mean the same; `created` says when a row was written, not what it says."""
    clocks = {"created"} if not table.keeps_versions else set()
    names = [name for name in wanted.columns if name not in clocks]
    order = [name for name in [PARTITION_COLUMN, *table.key, "created"] if name in wanted.columns]
    return standing.sort(order).select(names).equals(wanted.sort(order).select(names))
