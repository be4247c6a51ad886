"""
A year of daily feature tables: in one pass, by daily runs, and one day more on top of it; with the writes to Delta.

    python benchmarks/feature_history.py                                    # 1M events of 20,000 users
    python benchmarks/feature_history.py --events 20000000 --users 400000

`one full build` is the peer: each user's newest row alone, from the whole log into one file. Everything else writes a
row for each user and active day through the steps that the Dags call. Each line is a process of its own. With `--spark`
also the pass in a Spark session of this machine (Java 17), into tables of its own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from feature_build import ours
from feature_world import FIRST, WEIGHTS, circumstances, in_fresh_process, log_of, measured, write_log
from rich.console import Console
from rich.table import Table

from pipeline.contracts import BEHAVIOR_EVENTS, INTEREST_WINDOWS, ITEMS, PARTITION_COLUMN, SEQUENCE_FEATURES
from pipeline.features.interest_windows import extend_windows
from pipeline.features.sequences import extend_sequences
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.steps.sequence_features import build_features, build_history
from pipeline.stores.ledger import Ledger
from pipeline.stores.tables import Lake

DAYS = 365
START = Day.of(FIRST)
KNOWN_AT = datetime(2026, 3, 1, tzinfo=UTC)
DAILY_RUNS = 10
"""The last days, which have the most history before them, are built again one by one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--new-events", type=int, default=55_000, help="events of the day on top")
    parser.add_argument("--spark", action="store_true", help="also the pass by Spark")
    parser.add_argument("--one", nargs=2, metavar=("WORK", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        work, folder = given.one
        print(json.dumps(measured(lambda: WORK[work](Path(folder)))))
        return
    with tempfile.TemporaryDirectory(prefix="feature-history-") as scratch:
        folder = Path(scratch)
        write_log(folder, given.users, given.events)
        publish(folder, pl.read_parquet(folder / "events.parquet"))
        day = START.plus(DAYS)
        moved = pl.col("event_time").dt.offset_by(f"{DAYS}d")
        more = log_of(given.users, given.new_events, days=1, seed=8)
        publish(folder, more.with_columns(moved, pl.format("n{}", "event_id").alias("event_id")))
        usual, moved = given.events // DAYS, pl.col("event_time").dt.offset_by(f"{DAYS + 1}d")
        more = log_of(given.users, usual, days=1, seed=9)
        publish(folder, more.with_columns(moved, pl.format("m{}", "event_id").alias("event_id")))
        title = f"{given.events:,} events of {given.users:,} users on {DAYS} days, "
        title += f"{given.new_events:,} on {day}, {usual:,} on the day after; "
        table = Table("work", title=title + circumstances(), title_justify="left", box=None)
        for column in ("seconds", "CPU s", "peak MB", "MB above the imports", "times one full build"):
            table.add_column(column, justify="right")
        if given.spark:
            shutil.copytree(folder / "home", folder / "spark" / "home")
        standing = 0.0
        for work in WORK:
            if work == BY_SPARK and not given.spark:
                continue
            facts = in_fresh_process(__file__, "--one", work, folder)
            standing = standing or facts["seconds"]
            table.add_row(work, f"{facts['seconds']:.2f}", f"{facts['cpu']:.2f}", f"{facts['peak_mb']:.0f}",
                          f"{facts['above_mb']:.0f}", f"{facts['seconds'] / standing:.2f}")
        Console(width=120).print(table)
        print(f"{DAYS} daily runs take about {DAYS // DAILY_RUNS} times what {DAILY_RUNS} of the last ones do.")


def publish(folder: Path, events: pl.DataFrame) -> None:
    settings = settings_of(folder)
    Ledger(settings.ledger_url).migrate()
    lake = Lake.of(settings)
    if not lake.exists(ITEMS):
        lake.overwrite(ITEMS, pl.read_parquet(folder / "items.parquet"))
    days = pl.col("event_time").dt.date().cast(pl.String).alias(PARTITION_COLUMN)
    first, last = (Day.of(events["event_time"].min()), Day.of(events["event_time"].max()))
    lake.replace_range(BEHAVIOR_EVENTS, first, last, events.with_columns(days))


def settings_of(folder: Path) -> Settings:
    return Settings.load(home=folder / "home")


def one_pass(folder: Path) -> None:
    build_history(START, START.plus(DAYS - 1), settings_of(folder), KNOWN_AT)


def one_pass_by_spark(folder: Path) -> None:
    settings = settings_of(folder / "spark")
    features = settings.features.model_copy(update={"engine": "spark"})
    build_history(START, START.plus(DAYS - 1), settings.model_copy(update={"features": features}), KNOWN_AT)


def daily_runs(folder: Path) -> None:
    """The last days are taken away and built again one by one."""
    settings = settings_of(folder)
    first = START.plus(DAYS - DAILY_RUNS)
    days = [first.plus(number) for number in range(DAILY_RUNS)]
    for table in (SEQUENCE_FEATURES, INTEREST_WINDOWS):
        Lake.of(settings).rewrite_days(table, days, table.empty().with_columns(pl.lit("").alias(PARTITION_COLUMN)))
    for day in days:
        build_features(day, settings, KNOWN_AT)


def day_on_top(folder: Path) -> None:
    """The daily run as the Dag makes it: state and events read, rows made and committed."""
    build_features(START.plus(DAYS), settings_of(folder), KNOWN_AT)


def usual_day(folder: Path) -> None:
    """The same for a day with as many events as the days of the history have."""
    build_features(START.plus(DAYS + 1), settings_of(folder), KNOWN_AT)


def day_computed(folder: Path) -> None:
    """What of that is computing: the state and the events are in memory."""
    lake = Lake.of(settings_of(folder))
    day = START.plus(DAYS)
    events = lake.scan(BEHAVIOR_EVENTS, day, day).collect()
    users = events.select("user_id").unique()
    states = {}
    for table in (SEQUENCE_FEATURES, INTEREST_WINDOWS):
        rows = lake.scan(table, None, day.plus(-1)).join(users.lazy(), on="user_id", how="semi")
        states[table] = rows.sort("event_timestamp").unique("user_id", keep="last").collect()
    items = lake.scan(ITEMS).collect()
    facts = measured(lambda: (
        extend_sequences(states[SEQUENCE_FEATURES], events, 200),
        extend_windows(states[INTEREST_WINDOWS], events, items, WEIGHTS),
    ))
    print(json.dumps(facts))
    raise SystemExit(0)


BY_SPARK = f"{DAYS} days in one pass by Spark"
WORK: dict[str, Callable[[Path], None]] = {
    "one full build": ours,
    f"{DAYS} days in one pass": one_pass,
    BY_SPARK: one_pass_by_spark,
    f"the last {DAILY_RUNS} days by daily runs": daily_runs,
    "one day on top": day_on_top,
    "one usual day after it": usual_day,
    "one day on top, computing alone": day_computed,
}

if __name__ == "__main__":
    main()
