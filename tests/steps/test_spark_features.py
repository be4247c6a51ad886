"""Features made on Spark are those made on this machine: the same rows, the same lines, one commit a table."""

import importlib.util
import shutil
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipeline.contracts import BEHAVIOR_EVENTS, INTEREST_WINDOWS, ITEMS, PARTITION_COLUMN, SEQUENCE_FEATURES
from pipeline.partitions import Day
from pipeline.steps.sequence_features import build_history

FIRST = Day.parse("2026-03-01")
LAST = FIRST.plus(3)
BOTH = (SEQUENCE_FEATURES, INTEREST_WINDOWS)
KNOWN_AT = datetime(2026, 4, 1, tzinfo=UTC)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("pyspark") is None, reason="pyspark is not installed"),
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java, which is not installed"),
]


def test_spark_makes_the_rows_of_one_machine(lake, ledger, settings):
    rows = [
        (f"{day}-{user}-{n}", f"u{user}", f"i{(user * n + day) % 7}", ("view", "cart")[n % 2],
         FIRST.plus(day).start + timedelta(hours=3 * n, microseconds=user), None, KNOWN_AT)
        for day in range(4) for user in range(12) for n in range(3) if (user + day) % 3
    ]
    events = pl.DataFrame(rows, schema=BEHAVIOR_EVENTS.schema, orient="row")
    by_day = events.with_columns(pl.col("event_time").dt.date().cast(pl.String).alias(PARTITION_COLUMN))
    lake.replace_range(BEHAVIOR_EVENTS, FIRST, LAST, by_day)
    items = [(f"i{n}", f"item {n}", [f"c{n % 3}", f"c{n % 2}"], FIRST.start) for n in range(6)]
    lake.overwrite(ITEMS, pl.DataFrame(items, schema=ITEMS.schema, orient="row"))

    def content():
        return [lake.current(table).collect().drop("created").sort(table.key) for table in BOTH]

    build_history(FIRST, LAST, settings, KNOWN_AT)
    wanted = content()
    for table in BOTH:
        nothing = table.empty().with_columns(pl.lit("").alias(PARTITION_COLUMN))
        lake.replace_range(table, FIRST.plus(2), LAST, nothing)
    features = settings.features.model_copy(update={"engine": "spark", "spark_buckets": 2})
    versions = [lake.version(table) for table in BOTH]
    built = build_history(FIRST.plus(2), LAST, settings.model_copy(update={"features": features}), KNOWN_AT)
    assert built.changed
    assert [lake.version(table) for table in BOTH] == [version + 1 for version in versions]
    assert [now.equals(then) for now, then in zip(content(), wanted, strict=True)] == [True, True]
