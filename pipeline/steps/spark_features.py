"""Makes the rows of a range of days with Spark; what they are, and how they are committed, is as without it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from pipeline.contracts import BEHAVIOR_EVENTS, PARTITION_COLUMN, Table
from pipeline.errors import BadSetting
from pipeline.features.day_ends import each_once
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.steps.feature_state import Extend, definitions_of, tolerance_of
from pipeline.stores.tables import Lake

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def parts_by_spark(
    settings: Settings,
    lake: Lake,
    days: Sequence[Day],
    known_at: datetime,
    scratch: Path,
    session: SparkSession | None = None,
) -> Iterator[tuple[Table, pl.DataFrame]]:
    """The rows of both tables, day by day, by way of Parquet files in `scratch`.

    Raises BadSetting where Spark is not installed.

    Args:
        session: one that the caller ends; else one is begun by the setting `features.spark_master`.
    """
    if find_spec("pyspark") is None:
        raise BadSetting(
            "Setting `features.engine` is spark, and pyspark is not installed: pip install 'interest[spark]', with "
            "Java 17. Or set it to polars."
        )
    from pipeline.features.spark import lay_by_with_spark, spark_session

    definitions = definitions_of(lake, settings)
    with nullcontext(session) if session else spark_session(settings.features.spark_master) as spark:
        for table, extend in definitions.items():
            lay_by_with_spark(
                spark,
                table,
                _of_each_once(extend, settings),
                events=lake.file_uris(BEHAVIOR_EVENTS),
                before=lake.file_uris(table),
                first=days[0].start,
                end=days[-1].end,
                known_at=known_at,
                buckets=settings.features.spark_buckets,
                out=scratch / table.name,
            )
    for table in definitions:
        for day in days:
            if files := sorted((scratch / table.name).glob(f"{PARTITION_COLUMN}={day.key}/*.parquet")):
                rows = pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in files])
                rows = rows.cast(dict(table.schema)).sort(table.key)
                yield table, rows.with_columns(pl.lit(day.key).alias(PARTITION_COLUMN))


def _of_each_once(extend: Extend, settings: Settings) -> Extend:
    """The same on events that may be in two partitions: Spark reads the files as they are."""
    tolerance = tolerance_of(settings)
    return lambda before, events: extend(before, each_once(events.lazy(), tolerance).collect())
