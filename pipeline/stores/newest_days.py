"""
Finds the day of each user's newest row. The cost grows with the users asked for, not with the length of the history.

    newest_days(lake, SEQUENCE_FEATURES, users, day)

The table `newest_days` holds the answer as of one version of the table of features. Days that were written since then
are read. For a user who has a row on a later day, or has lost one, all earlier days are read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import polars as pl

from pipeline.contracts import NEWEST_DAYS, PARTITION_COLUMN, Table
from pipeline.partitions import Day, days_between
from pipeline.stores.tables import Lake

USER, TIME = "user_id", "event_timestamp"
SAYS_NOTHING_NEW = {"OPTIMIZE", "VACUUM START", "VACUUM END", "SET TBLPROPERTIES"}
"""Commits that leave every row as it is."""
DAYS_BEHIND = 8
"""So many days may be written before the index is made anew."""


def newest_days(lake: Lake, table: Table, users: pl.DataFrame, day: Day) -> pl.DataFrame:
    """(user_id, event_timestamp) of the users' newest rows before `day`."""
    written = _days_written(lake, table)
    if written is None:
        return _newest(lake.scan(table, None, day.plus(-1)), users)
    indexed = lake.scan(NEWEST_DAYS).filter(pl.col("view") == table.name).select(USER, TIME)
    said = indexed.join(users.lazy(), on=USER, how="semi").collect()
    then = pl.col(TIME).dt.date()
    said = said.with_columns(
        stands=~then.is_in([day.date for day in written]), later=pl.col(TIME) >= pl.lit(day.start)
    )
    found = _newest(_on(lake, table, [other for other in written if other < day]), users).rename({TIME: "found"})
    both = said.join(found, on=USER, how="full", coalesce=True)
    # The index names a later day, or a row that has gone: it does not say what lies before.
    unknown = pl.col(TIME).is_not_null() & (
        pl.col("later") | (~pl.col("stands") & (pl.col("found").is_null() | (pl.col("found") < pl.col(TIME))))
    )
    lost = both.filter(unknown).select(USER)
    known = both.filter(~unknown).select(USER, pl.max_horizontal(TIME, "found").alias(TIME))
    return pl.concat([known, _newest(lake.scan(table, None, day.plus(-1)), lost)]) if lost.height else known


def index_newest_days(lake: Lake, tables: Sequence[Table]) -> None:
    """Make the index anew where more than a few days were written since. Safe to repeat, and to leave out."""
    written = [_days_written(lake, table) for table in tables]
    if all(days is not None and len(days) <= DAYS_BEHIND for days in written):
        return
    parts = []
    for table in (table for table in tables if lake.exists(table)):
        as_of = _state_of(lake, table)
        newest = lake.scan(table).group_by(USER).agg(pl.col(TIME).max())
        parts.append(newest.select(pl.lit(table.name).alias("view"), USER, TIME, pl.lit(as_of).alias("as_of")))
    if parts:
        lake.overwrite(NEWEST_DAYS, pl.concat(parts).collect(engine="streaming"))


def _newest(rows: pl.LazyFrame, users: pl.DataFrame) -> pl.DataFrame:
    return rows.join(users.lazy(), on=USER, how="semi").group_by(USER).agg(pl.col(TIME).max()).collect()


def _on(lake: Lake, table: Table, days: Sequence[Day]) -> pl.LazyFrame:
    if not days:
        return table.empty().lazy()
    return lake.versions_of_rows(table).filter(pl.col(PARTITION_COLUMN).is_in([day.key for day in days]))


def _state_of(lake: Lake, table: Table) -> str:
    delta = lake.open(table)
    return f"{delta.metadata().id}@{delta.version()}"


def _days_written(lake: Lake, table: Table) -> set[Day] | None:
    """The days that were written after the index was made; None where that cannot be told."""
    index = lake.scan(NEWEST_DAYS).filter(pl.col("view") == table.name).select("as_of").head(1).collect()
    if index.is_empty() or not lake.exists(table):
        return None
    name, _, version = index.item().rpartition("@")
    delta = lake.open(table)
    behind = delta.version() - int(version)
    if delta.metadata().id != name or behind < 0:
        return None
    days: set[Day] = set()
    commits = delta.history(behind) if behind else []
    for commit in commits:
        if commit.get("operation") in SAYS_NOTHING_NEW:
            continue
        told = str(commit.get("operationParameters", {}).get("predicate", ""))
        keys = re.findall(r"\d{4}-\d{2}-\d{2}", told)
        if commit.get("operation") != "WRITE" or not keys:
            return None
        days.update(days_between(Day.parse(min(keys)), Day.parse(max(keys))))
    return days if len(commits) == behind else None
