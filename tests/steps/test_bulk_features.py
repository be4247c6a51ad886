"""Days that do not fit into the memory budget: built in buckets, written by days, and the same as all at once."""

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipeline.contracts import BEHAVIOR_EVENTS, INTEREST_WINDOWS, ITEMS, PARTITION_COLUMN, SEQUENCE_FEATURES
from pipeline.partitions import Day
from pipeline.steps.sequence_features import build_features, build_history

FIRST = Day.parse("2026-03-01")
LAST = FIRST.plus(4)
BOTH = (SEQUENCE_FEATURES, INTEREST_WINDOWS)
KNOWN_AT = datetime(2026, 4, 1, tzinfo=UTC)


@pytest.fixture
def published(lake, ledger):
    """Five days of events of 300 users, no event on the fourth."""
    rows = [
        (f"{day}-{user}-{n}", f"u{user:03d}", f"i{(user * n + day) % 17}", ("view", "cart")[n % 2],
         FIRST.plus(day).start + timedelta(hours=3 * n, seconds=user), None, KNOWN_AT)
        for day in (0, 1, 2, 4)
        for user in range(300)
        for n in range(3)
        if (user + day) % 3
    ]
    events = pl.DataFrame(rows, schema=BEHAVIOR_EVENTS.schema, orient="row")
    by_day = events.with_columns(pl.col("event_time").dt.date().cast(pl.String).alias(PARTITION_COLUMN))
    lake.replace_range(BEHAVIOR_EVENTS, FIRST, LAST, by_day)
    items = [(f"i{n}", f"item {n}", [f"c{n % 3}", f"c{n % 5}"], FIRST.start) for n in range(15)]
    lake.overwrite(ITEMS, pl.DataFrame(items, schema=ITEMS.schema, orient="row"))


def content(lake):
    return [lake.current(table).collect().drop("created").sort(table.key) for table in BOTH]


def emptied(lake):
    for table in BOTH:
        lake.replace_range(table, FIRST, LAST, table.empty().with_columns(pl.lit("").alias(PARTITION_COLUMN)))


def within(settings, budget_mb):
    features = settings.features.model_copy(update={"memory_budget_mb": budget_mb})
    return settings.model_copy(update={"features": features})


def lines_of(ledger):
    return [
        [(line.partition, line.state, line.counts, line.details) for line in ledger.partitions(table.name)]
        for table in BOTH
    ]


def test_a_range_in_buckets_equals_the_range_at_once(lake, ledger, settings, published):
    build_history(FIRST, LAST, settings, KNOWN_AT)
    wanted, lines = content(lake), lines_of(ledger)
    emptied(lake)
    build_history(FIRST, FIRST.plus(1), settings, KNOWN_AT)
    tight = within(settings, 0.4)
    built = build_history(FIRST.plus(1), LAST, tight, KNOWN_AT)
    assert [frame.equals(whole) for frame, whole in zip(content(lake), wanted, strict=True)] == [True, True]
    assert lines_of(ledger) == lines
    events = lake.scan(BEHAVIOR_EVENTS, FIRST.plus(1)).collect()
    assert (built.events, built.users) == (events.height, events["user_id"].n_unique())
    assert built.rows == wanted[0].filter(pl.col("event_timestamp") >= FIRST.end).height
    commit = next(lake.commits(SEQUENCE_FEATURES))
    assert (commit.first, commit.last) == (FIRST.plus(2), LAST), "days that stood are not written again"
    assert commit.note["run"].startswith("sequence_features@")
    again = build_history(FIRST.plus(1), LAST, tight, KNOWN_AT + timedelta(days=1))
    assert (again.changed, again.versions) == (False, built.versions)
    assert not build_features(LAST, settings, KNOWN_AT + timedelta(days=2)).changed


PROGRAM = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.steps.sequence_features import build_history
import polars, pyarrow, deltalake, pipeline.steps.bulk_features

def memory_mb(field):
    return int(Path("/proc/self/status").read_text().partition(field)[2].split()[0]) / 1024

before = memory_mb("VmRSS:")
built = build_history(Day.parse(sys.argv[2]), Day.parse(sys.argv[3]), Settings.load(home=sys.argv[1]),
                      datetime(2026, 4, 1, tzinfo=UTC))
print(built.rows, memory_mb("VmHWM:") - before)
"""


def test_a_tight_budget_bounds_the_memory_of_a_process(lake, ledger, settings):
    """40 days of 400 users who act ten times a day: lists of up to 200 events, more than the budget allows."""
    last = FIRST.plus(39)
    events = pl.DataFrame({"day": range(40)}).join(pl.DataFrame({"user": range(400)}), how="cross")
    events = events.join(pl.DataFrame({"n": range(10)}), how="cross").select(
        pl.format("{}-{}-{}", "day", "user", "n").alias("event_id"),
        pl.format("u{}", "user").alias("user_id"),
        pl.format("i{}", pl.col("user") * pl.col("n") % 97).alias("item_id"),
        pl.lit("view").alias("event_type"),
        (pl.lit(FIRST.start) + pl.duration(days="day", hours="n", seconds="user")).alias("event_time"),
        pl.lit(None, dtype=pl.Float64).alias("value"),
        pl.lit(KNOWN_AT).alias("ingested_at"),
    ).cast(BEHAVIOR_EVENTS.schema)
    by_day = events.with_columns(pl.col("event_time").dt.date().cast(pl.String).alias(PARTITION_COLUMN))
    lake.replace_range(BEHAVIOR_EVENTS, FIRST, last, by_day)
    peaks = {}
    for budget in ("4000", "200"):
        for table in BOTH:
            shutil.rmtree(lake.path(table), ignore_errors=True)
        program = [sys.executable, "-c", PROGRAM, str(settings.home), FIRST.key, last.key]
        environment = {**os.environ, "INTEREST_FEATURES__MEMORY_BUDGET_MB": budget, "INTEREST_LOG_LEVEL": "ERROR"}
        done = subprocess.run(program, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        rows, peaks[budget] = done.stdout.splitlines()[-1].split()
        assert int(rows) == 400 * 40
    assert float(peaks["200"]) < 200 < 400 < float(peaks["4000"]), peaks
