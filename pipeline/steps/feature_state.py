"""What a build of features stands on: the events of the days, each user's newest row before them, and the functions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import polars as pl
from pydantic import BaseModel, ConfigDict

from pipeline.contracts import BEHAVIOR_EVENTS, INTEREST_WINDOWS, ITEMS, PARTITION_COLUMN, SEQUENCE_FEATURES, Table
from pipeline.features.day_ends import each_once
from pipeline.features.interest_windows import extend_windows
from pipeline.features.sequences import extend_sequences
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.stores.newest_days import newest_days
from pipeline.stores.single_rows import rows_at
from pipeline.stores.tables import Lake

Extend = Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame]
"""(newest earlier row of each user, events) -> the rows those events bring about, without `created`."""


class BuiltFeatures(BaseModel):
    """What a build left behind. `rows` are user-days, the same in both tables."""

    model_config = ConfigDict(frozen=True)

    first: str
    last: str
    events: int
    users: int
    rows: int
    later_rows: int
    """Rows of later days that were restated because a day before them changed."""
    changed: bool
    versions: dict[str, int]


def definitions_of(lake: Lake, settings: Settings) -> dict[Table, Extend]:
    return {
        SEQUENCE_FEATURES: lambda before, events: extend_sequences(before, events, settings.features.sequence_length),
        INTEREST_WINDOWS: _windows_with(lake.scan(ITEMS).collect(), settings),
    }


def _windows_with(items: pl.DataFrame, settings: Settings) -> Extend:
    return lambda before, events: extend_windows(before, events, items, settings.logs.event_weights)


def events_of(lake: Lake, first: Day, last: Day, settings: Settings) -> pl.LazyFrame:
    """The events of the days by event time; a tolerated late one may lie a partition early, or in two."""
    return of_days(lake.scan(BEHAVIOR_EVENTS, first.plus(-1), last), first, last, settings)


def of_days(events: pl.LazyFrame, first: Day, last: Day, settings: Settings) -> pl.LazyFrame:
    """Of the events of partitions, those that happened on the days, each once."""
    within = (pl.col("event_time") >= first.start) & (pl.col("event_time") < last.end)
    return each_once(events.filter(within), tolerance_of(settings))


def tolerance_of(settings: Settings) -> timedelta:
    """How far after a day's end an event of that day's files may lie."""
    return timedelta(minutes=settings.logs.day_end_tolerance_minutes)


def newest_before(lake: Lake, table: Table, users: pl.DataFrame, day: Day) -> pl.DataFrame:
    """Of each user the newest row of a day before `day`."""
    return rows_at(lake, table, newest_days(lake, table, users, day))


def stamped(table: Table, rows: pl.DataFrame, known_at: datetime) -> pl.DataFrame:
    created = pl.lit(known_at).cast(table.schema["created"]).alias("created")
    return dated(rows.with_columns(created).select(table.names))


def dated(rows: pl.DataFrame) -> pl.DataFrame:
    """With the partition column: the day that a row's event time ends."""
    return rows.with_columns(pl.col("event_timestamp").dt.date().cast(pl.String).alias(PARTITION_COLUMN))
