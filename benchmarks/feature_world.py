"""
What the benchmarks of features share: a seeded log of a shop, and a fresh process for each contender.

Items are popular as Zipf says, users act in bursts and a few of them a hundred times as often as most. It says how
fast something is and nothing about how good it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from pyarrow.parquet import ParquetWriter
from rich.console import Console
from rich.table import Table

from pipeline.contracts import BEHAVIOR_EVENTS, ITEMS

FIRST = datetime(2025, 1, 1, tzinfo=UTC)
WEIGHTS = {"view": 1.0, "cart": 3.0, "purchase": 5.0}
HALF_LIVES = (7, 30, 180)
LENGTH = 200
NUM_CATEGORIES = 40
BURST = 4
"""Events of a visit, on average."""
A_DAY = 86_400_000_000
EVENTS_A_PART = 20_000_000
"""As many are made in memory at once."""


def log_of(
    users: int, events: int, items: int = 60_000, days: int = 365, seed: int = 7, part: int = 0
) -> pl.DataFrame:
    """`events` rows of BEHAVIOR_EVENTS by time, `days` from 2025-01-01 on; other parts have other rows."""
    rng = np.random.default_rng(seed)
    visits = max(events // BURST, 1)
    heaviness = np.minimum(rng.pareto(1.3, size=users) + 0.5, 100.0)
    rng = np.random.default_rng((seed, part)) if part else rng
    visitor = rng.choice(users, size=visits, p=heaviness / heaviness.sum())
    begins = rng.integers(0, days * A_DAY - A_DAY // 24, size=visits)
    visit = np.sort(rng.integers(0, visits, size=events))
    when = begins[visit] + rng.integers(0, A_DAY // 24, size=events)
    popularity = 1.0 / np.arange(1, items + 1) ** 1.05
    item = rng.choice(items, size=events, p=popularity / popularity.sum())
    kind = rng.choice(len(WEIGHTS), size=events, p=(0.9, 0.07, 0.03))
    order = np.argsort(when, kind="stable")
    moments = pl.Series(when[order] + int(FIRST.timestamp()) * 1_000_000).cast(BEHAVIOR_EVENTS.schema["event_time"])
    frame = pl.DataFrame({"user": visitor[visit][order], "item": item[order], "kind": kind[order], "time": moments})
    return frame.with_row_index("event", offset=part * events).select(
        pl.format("e{}", pl.col("event").cast(pl.String).str.zfill(10)).alias("event_id"),
        pl.format("u{}", pl.col("user").cast(pl.String).str.zfill(8)).alias("user_id"),
        pl.format("i{}", pl.col("item").cast(pl.String).str.zfill(6)).alias("item_id"),
        pl.col("kind").replace_strict(range(len(WEIGHTS)), list(WEIGHTS), return_dtype=pl.String).alias("event_type"),
        pl.col("time").alias("event_time"),
        pl.lit(None, dtype=BEHAVIOR_EVENTS.schema["value"]).alias("value"),
        pl.col("time").alias("ingested_at"),
    ).select(BEHAVIOR_EVENTS.names)


def catalogue_of(items: int = 60_000, seed: int = 7) -> pl.DataFrame:
    """ITEMS with one of 40 categories each."""
    kinds = np.random.default_rng(seed).integers(0, NUM_CATEGORIES, size=items)
    return pl.DataFrame(
        {
            "item_id": [f"i{number:06d}" for number in range(items)],
            "title": [f"item {number}" for number in range(items)],
            "categories": [[f"c{kind:02d}"] for kind in kinds.tolist()],
            "valid_from": pl.Series([FIRST]).new_from_index(0, items),
        },
        schema=ITEMS.schema,
    )


def write_log(folder: Path, users: int, events: int, days: int = 365) -> None:
    """`events.parquet` and `items.parquet`. A log of many events is by time within each of its parts only."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = -(-events // EVENTS_A_PART)
    with ExitStack() as open_file:
        writer = None
        for part in range(parts):
            rows = log_of(users, events // parts, days=days, part=part).to_arrow()
            writer = writer or open_file.enter_context(ParquetWriter(folder / "events.parquet", rows.schema))
            writer.write_table(rows, row_group_size=500_000)
    catalogue_of().write_parquet(folder / "items.parquet")


def in_fresh_process(script: str, *arguments: object, timeout: float | None = None) -> dict:
    """What `script` prints as its last line, a JSON object, when it is run alone."""
    command = [sys.executable, script, *(str(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measured(work: Callable[[], object]) -> dict:
    """Seconds on the clock and of the processor, and by how much the process grew beyond what it had loaded."""
    before, clock, cpu = memory_mb("VmRSS"), time.perf_counter(), time.process_time()
    work()
    return {
        "seconds": time.perf_counter() - clock,
        "cpu": time.process_time() - cpu,
        "peak_mb": memory_mb("VmHWM"),
        "above_mb": memory_mb("VmHWM") - before,
    }


def memory_mb(field: str) -> float:
    """VmRSS or VmHWM of this process. (`ru_maxrss` would begin with what the parent had.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def circumstances() -> str:
    """Under what the figures were measured: the processors, the threads of Polars, and how busy the machine was."""
    return f"{os.cpu_count()} cores, {pl.thread_pool_size()} threads, load {os.getloadavg()[0]:.1f}"


def print_beside_polars(title: str, found: Mapping[str, dict]) -> None:
    """A row a contender, from what `measured` found; seconds also as a multiple of hand-written Polars where it ran."""
    table, peer = Table("contender", title=title, title_justify="left", box=None), found.get("hand-written Polars")
    for column in ("seconds", "CPU s", "peak MB", *(["times hand-written Polars"] if peer else [])):
        table.add_column(column, justify="right")
    for name, facts in found.items():
        ratio = [f"{facts['seconds'] / peer['seconds']:.2f}"] if peer else []
        table.add_row(name, f"{facts['seconds']:.1f}", f"{facts['cpu']:.1f}", f"{facts['peak_mb']:.0f}", *ratio)
    Console(width=120).print(table)
