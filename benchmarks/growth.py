"""
How the cost of a build, of a day on top, of a push and of a look-up grows with users, with days and with events.

    python benchmarks/growth.py                         # from 60,000 events of 1,500 users on 24 days to 16 times that

`users` grows users and their events, `days` the length of the log at so many events a day, `events` the events of each
user. The exponent is the slope of the logarithms: 0 where a cost does not follow, 1 where it grows in proportion. Costs
are CPU seconds, each measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from feature_build import ours
from feature_history import KNOWN_AT, START, publish, settings_of
from feature_world import circumstances, in_fresh_process, log_of, measured, write_log
from online_world import profiles, store_of
from rich.console import Console
from rich.table import Table

from pipeline.steps.sequence_features import build_features, build_history
from pipeline.stores.feature_store import write_newest

USERS, DAYS, EVENTS = 1_500, 24, 60_000
TIMES = (1, 4, 16)
GROWS = {"users": ("users", "events"), "days": ("days", "events"), "events": ("events",)}
NEW_EVENTS = 2_500
LOOKED_UP, REQUESTS = 100, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=4, metavar=("WORK", "FOLDER", "USERS", "DAYS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        work, folder, users, days = given.one
        print(json.dumps(measured(WORK[work](Path(folder), int(users), int(days)))))
        return
    table = Table("what grows", "work", title=circumstances(), title_justify="left", box=None)
    for column in (*(f"{times}x CPU s" for times in TIMES), "exponent"):
        table.add_column(column, justify="right")
    for axis, sizes in GROWS.items():
        costs = [costs_of(**grown(sizes, times)) for times in TIMES]
        for work in WORK:
            seconds = [cost[work] for cost in costs]
            slope = np.polyfit(np.log(TIMES), np.log(seconds), 1)[0]
            table.add_row(axis, work, *(f"{each:.2f}" for each in seconds), f"{slope:.2f}")
    Console(width=120).print(table)


def grown(sizes: tuple[str, ...], times: int) -> dict[str, int]:
    start = {"users": USERS, "days": DAYS, "events": EVENTS}
    return {name: size * times if name in sizes else size for name, size in start.items()}


def costs_of(users: int, days: int, events: int) -> dict[str, float]:
    """CPU seconds by work, in a log of this size."""
    with tempfile.TemporaryDirectory(prefix="growth-") as scratch:
        folder = Path(scratch)
        write_log(folder, users, events, days)
        publish(folder, pl.read_parquet(folder / "events.parquet"))
        moved = pl.col("event_time").dt.offset_by(f"{days}d")
        more = log_of(users, NEW_EVENTS, days=1, seed=8)
        publish(folder, more.with_columns(moved, pl.format("n{}", "event_id").alias("event_id")))
        return {work: in_fresh_process(__file__, "--one", work, folder, users, days)["cpu"] for work in WORK}


def newest_rows(folder: Path, _users: int, _days: int) -> Callable[[], object]:
    return lambda: ours(folder)


def every_day(folder: Path, _users: int, days: int) -> Callable[[], object]:
    settings = settings_of(folder)
    return lambda: build_history(START, START.plus(days - 1), settings, KNOWN_AT)


def day_on_top(folder: Path, _users: int, days: int) -> Callable[[], object]:
    settings = settings_of(folder)
    return lambda: build_features(START.plus(days), settings, KNOWN_AT)


def push_all(folder: Path, users: int, _days: int) -> Callable[[], object]:
    store, rows = store_of("sqlite", str(folder), fenced=True), profiles(users)
    return lambda: write_newest(store, store.get_feature_view("profiles"), rows)


def look_up(folder: Path, users: int, _days: int) -> Callable[[], object]:
    store, drawn = store_of("sqlite", str(folder), fenced=True), np.random.default_rng(1)
    requests = drawn.integers(0, users, size=(REQUESTS, LOOKED_UP)).tolist()

    def ask() -> None:
        for rows in requests:
            asked = [{"user_id": f"user-{row:08d}"} for row in rows]
            store.get_online_features(["profiles:vector", "profiles:items"], entity_rows=asked).to_dict()

    return ask


WORK: dict[str, Callable[[Path, int, int], Callable[[], object]]] = {
    "each user's newest row": newest_rows,
    "all days in one pass": every_day,
    f"a day of {NEW_EVENTS:,} events on top": day_on_top,
    "push of all users": push_all,
    f"{REQUESTS} look-ups of {LOOKED_UP} users": look_up,
}

if __name__ == "__main__":
    main()
