"""
The rows of features by Spark, for a log that has outgrown one machine: the same functions, on buckets of users.

Spark cuts the events and the rows before them into buckets, and gives each pair to the function that this machine
would have called. It reads the files of tables and writes none: what comes back is laid by in files of its own, by day.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import polars as pl
import pyarrow as pa

from pipeline.contracts import PARTITION_COLUMN, Table

Extend = Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame]


@contextmanager
def spark_session(master: str):
    """A session of this process, whose workers run this interpreter; without a page of its own."""
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master(master)
        .appName("features")
        .config("spark.sql.execution.pyspark.python", sys.executable)  # `spark.pyspark.python` is read by spark-submit
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    try:
        yield session
    finally:
        session.stop()


def lay_by_with_spark(
    session,
    table: Table,
    extend: Extend,
    events: Sequence[str],
    before: Sequence[str],
    first: datetime,
    end: datetime,
    known_at: datetime,
    buckets: int,
    out: Path,
) -> None:
    """Write the rows that the events from `first` until `end` bring about into `out`, a folder a day.

    Args:
        session: anybody's; what the functions need of it is set here.
        events: Parquet files with rows of BEHAVIOR_EVENTS.
        before: those of `table`; of each user the newest row before `first` is taken.
        out: absolute, and the same folder to this machine and to Spark's executors.
    """
    from pyspark.sql import functions as F
    from pyspark.sql.pandas.types import from_arrow_schema

    from pipeline.contracts import BEHAVIOR_EVENTS

    session.conf.set("spark.sql.session.timeZone", "UTC")
    session.conf.set("spark.sql.shuffle.partitions", str(buckets))
    session.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "0")  # a bucket is one table
    # Above 32 files, Spark looks at each by a task of its own. A task costs a quarter of a second, a look nothing.
    session.conf.set("spark.sql.sources.parallelPartitionDiscovery.parallelism", str(buckets))
    read = [name for name in BEHAVIOR_EVENTS.names if name not in ("value", "ingested_at")]
    bucket = F.pmod(F.xxhash64("user_id"), F.lit(buckets)).alias("bucket")
    log = session.read.parquet(*events).where((F.col("event_time") >= first) & (F.col("event_time") < end))
    log = log.select(*read, bucket)
    if before:
        rows = session.read.parquet(*before).where(F.col("event_timestamp") < first)
        newest = rows.groupBy("user_id").agg(F.max(F.struct("event_timestamp", "created")).alias("newest"))
        newest = newest.select("user_id", "newest.event_timestamp", "newest.created")
        states = rows.join(newest, ["user_id", "event_timestamp", "created"], "left_semi")
    else:
        states = session.createDataFrame([], from_arrow_schema(_arrow_schema(table.empty())))
    states = states.join(log.select("user_id").distinct(), "user_id", "left_semi").select(*table.names, bucket)
    schema = _arrow_schema(_stamped(table, table.empty().drop("created"), known_at))

    def rows_of_bucket(new: pa.Table, standing: pa.Table) -> pa.Table:
        made = extend(_frame(standing, table.schema), _frame(new, {n: BEHAVIOR_EVENTS.schema[n] for n in read}))
        return _stamped(table, made, known_at).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema)

    both = log.groupBy("bucket").cogroup(states.groupBy("bucket"))
    rows = both.applyInArrow(rows_of_bucket, from_arrow_schema(schema))
    # Version 2 moves files as each task ends, not one by one at the end. A run that dies leaves some behind, which is
    # no harm: the whole folder is scratch.
    writer = rows.write.option("mapreduce.fileoutputcommitter.algorithm.version", "2").partitionBy(PARTITION_COLUMN)
    writer.parquet(f"file://{out}")  # a cluster may take a bare path for one of HDFS


def _stamped(table: Table, rows: pl.DataFrame, known_at: datetime) -> pl.DataFrame:
    created = pl.lit(known_at).cast(table.schema["created"]).alias("created")
    day = pl.col("event_timestamp").dt.date().cast(pl.String).alias(PARTITION_COLUMN)
    return rows.with_columns(created).select(*table.names, day)


def _frame(rows: pa.Table, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    return pl.from_arrow(rows).select(pl.col(name).cast(dtype) for name, dtype in schema.items())


def _arrow_schema(frame: pl.DataFrame) -> pa.Schema:
    """The schema with the types that Spark takes: no large strings, no large lists."""

    def small(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_large_string(kind):
            return pa.string()
        if pa.types.is_large_list(kind):
            return pa.list_(small(kind.value_type))
        return kind

    schema = frame.to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    return pa.schema([pa.field(field.name, small(field.type)) for field in schema])
