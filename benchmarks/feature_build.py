"""
Last 200 events and decayed counts of every user, from a whole log: ours beside hand-written Polars, DuckDB, pandas.

    python benchmarks/feature_build.py                                      # 1M events of 20,000 users
    python benchmarks/feature_build.py --events 20000000 --users 400000
    python benchmarks/feature_build.py --events 200000000 --users 4000000 --budget-mb 4000 --only ours

Ours keeps to a memory budget: the log is cut into buckets of users on disk, as many as that takes. All contenders read
the same Parquet file and write their rows into another, each in a fresh process. What they wrote is compared: lists
value by value, counts to a relative 1e-9.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from feature_world import (
    FIRST,
    HALF_LIVES,
    LENGTH,
    WEIGHTS,
    circumstances,
    in_fresh_process,
    measured,
    print_beside_polars,
    write_log,
)

ARRAYS = {"item_ids": "item_id", "event_types": "event_type", "event_times": "event_time"}
COUNTS = [f"counts_{days}d" for days in HALF_LIVES]
END = FIRST + timedelta(days=365, microseconds=-1)
"""The moment as of which the peers count. (Our rows are as of each user's last day: decayed further to compare.)"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--log", type=Path, help="a folder that holds the log, or is to keep it")
    parser.add_argument("--only", nargs="*", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--budget-mb", type=float, default=2_000, help="the memory that ours may take")
    parser.add_argument("--one", nargs=2, metavar=("CONTENDER", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        name, folder = given.one
        contender = partial(ours, budget_mb=given.budget_mb) if name == "ours" else CONTENDERS[name]
        print(json.dumps(measured(lambda: contender(Path(folder)))))
        return
    with tempfile.TemporaryDirectory(prefix="feature-build-") as scratch:
        folder = given.log or Path(scratch)
        if not (folder / "events.parquet").exists():
            write_log(folder, given.users, given.events)
        title = f"{given.events:,} events of {given.users:,} users; {circumstances()}"
        budget = ("--budget-mb", given.budget_mb)
        found = {name: in_fresh_process(__file__, *budget, "--one", name, folder) for name in given.only}
        compare(folder, given.only)
        print_beside_polars(title, found)


def ours(folder: Path, budget_mb: float = 2_000) -> None:
    """A bucket is ordered while the rows of the one before are made and those of the one before that are written."""
    from pipeline.contracts import INTEREST_WINDOWS, SEQUENCE_FEATURES
    from pipeline.features.buckets import buckets_within, in_buckets, one_ahead
    from pipeline.features.interest_windows import extend_windows
    from pipeline.features.ragged import in_order
    from pipeline.features.sequences import extend_sequences

    items = pl.read_parquet(folder / "items.parquet")
    events = pl.scan_parquet(folder / "events.parquet").select("user_id", *ARRAYS.values(), "event_id")

    def rows_of(ordered: pl.DataFrame) -> pl.DataFrame:
        sequences = extend_sequences(SEQUENCE_FEATURES.empty(), ordered, LENGTH, newest_only=True)
        windows = extend_windows(INTEREST_WINDOWS.empty(), ordered, items, WEIGHTS, newest_only=True)
        return sequences.join(windows.drop("num_events"), on=["user_id", "event_timestamp"])

    num = buckets_within(budget_mb, events, LENGTH, newest_only=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch, files_in(folder / "ours.parquet") as write:
        ordered = one_ahead(in_order(bucket) for bucket in in_buckets(events, num, Path(scratch)))
        for rows in one_ahead(rows_of(bucket) for bucket in ordered):
            write(rows)


@contextmanager
def files_in(folder: Path) -> Iterator[Callable[[pl.DataFrame], None]]:
    """Writes one file of a folder after the other."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    numbers = itertools.count()
    yield lambda rows: rows.write_parquet(folder / f"{next(numbers):04d}.parquet")


def hand_written_polars(folder: Path) -> None:
    items = pl.read_parquet(folder / "items.parquet").select("item_id", pl.col("categories").list.first())
    events = pl.scan_parquet(folder / "events.parquet").select("user_id", *ARRAYS.values(), "event_id")
    events = events.sort("user_id", "event_time", "event_id").drop("event_id").collect()
    lists = events.group_by("user_id", maintain_order=True).agg(
        pl.col(column).tail(LENGTH).alias(name) for name, column in ARRAYS.items()
    )
    weighted = events.join(items, on="item_id", how="left").select(
        "user_id", "categories",
        pl.col("event_type").replace_strict(WEIGHTS, return_dtype=pl.Float64).alias("weight"),
        ((pl.lit(END) - pl.col("event_time")).dt.total_microseconds() / 86_400_000_000).alias("age"),
    )
    del events
    counts = weighted.group_by("user_id", "categories").agg(
        (pl.col("weight") * (-pl.col("age") / days * np.log(2)).exp()).sum().alias(f"counts_{days}d")
        for days in HALF_LIVES
    )
    counts = counts.sort("user_id", "categories").group_by("user_id", maintain_order=True).agg(pl.all())
    lists.join(counts, on="user_id").write_parquet(folder / "hand-written Polars.parquet")


def duckdb_sql(folder: Path) -> None:
    import duckdb

    weight = " ".join(f"WHEN '{name}' THEN {value}" for name, value in WEIGHTS.items())
    sums = ", ".join(f"sum(weight * exp2_(-age / {days})) AS counts_{days}d" for days in HALF_LIVES)
    lists = ", ".join(
        f"list({column} ORDER BY event_time, event_id) AS {name}" for name, column in ARRAYS.items()
    )
    counts = ", ".join(f"list({name} ORDER BY categories) AS {name}" for name in COUNTS)
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    database.execute(f"SET threads = {pl.thread_pool_size()}")
    database.execute("CREATE MACRO exp2_(x) AS pow(2.0, x)")
    database.execute(f"""
        COPY (
            WITH log AS (SELECT * FROM read_parquet('{folder}/events.parquet')),
            newest AS (SELECT * FROM log QUALIFY row_number() OVER
                       (PARTITION BY user_id ORDER BY event_time DESC, event_id DESC) <= {LENGTH}),
            lists AS (SELECT user_id, {lists} FROM newest GROUP BY user_id),
            weighted AS (SELECT user_id, item.categories[1] AS categories, CASE event_type {weight} END AS weight,
                         (epoch_us(TIMESTAMPTZ '{END.isoformat()}') - epoch_us(event_time)) / 86400000000.0 AS age
                         FROM log LEFT JOIN read_parquet('{folder}/items.parquet') AS item USING (item_id)),
            sums AS (SELECT user_id, categories, {sums} FROM weighted GROUP BY user_id, categories),
            counts AS (SELECT user_id, list(categories ORDER BY categories) AS categories, {counts}
                       FROM sums GROUP BY user_id)
            SELECT * FROM lists JOIN counts USING (user_id)
        ) TO '{folder}/DuckDB.parquet' (FORMAT parquet)
    """)


def with_pandas(folder: Path) -> None:
    import pandas as pd

    items = pd.read_parquet(folder / "items.parquet", columns=["item_id", "categories"])
    category = items.set_index("item_id")["categories"].str[0]
    events = pd.read_parquet(folder / "events.parquet", columns=["user_id", *ARRAYS.values(), "event_id"])
    events = events.sort_values(["user_id", "event_time", "event_id"])
    newest = events.groupby("user_id").tail(LENGTH).groupby("user_id")
    lists = pd.DataFrame({name: newest[column].agg(list) for name, column in ARRAYS.items()})
    events["categories"] = events["item_id"].map(category)
    weight, age = events["event_type"].map(WEIGHTS), (pd.Timestamp(END) - events["event_time"]) / pd.Timedelta(days=1)
    for name, days in zip(COUNTS, HALF_LIVES, strict=True):
        events[name] = weight * np.exp2(-age / days)
    sums = events.groupby(["user_id", "categories"])[COUNTS].sum().reset_index()
    lists.join(sums.groupby("user_id").agg(list)).reset_index().to_parquet(folder / "pandas.parquet")


CONTENDERS: dict[str, Callable[[Path], None]] = {
    "ours": ours,
    "hand-written Polars": hand_written_polars,
    "DuckDB": duckdb_sql,
    "pandas": with_pandas,
}


def compare(folder: Path, names: list[str]) -> None:
    """Every contender must have written the same; raises AssertionError."""
    standing = None
    for name in names:
        rows = pl.scan_parquet(folder / f"{name}.parquet")
        if "event_timestamp" in rows.collect_schema().names():
            gap = (pl.lit(END) - pl.col("event_timestamp")).dt.total_microseconds() / 86_400_000_000
            rows = rows.with_columns(
                pl.col(column) * pl.lit(0.5).pow(gap / days) for column, days in zip(COUNTS, HALF_LIVES, strict=True)
            )
        shown = rows.select(
            "user_id",
            *(pl.col(column).list.join(",").hash() for column in ("item_ids", "event_types")),
            pl.col("event_times").list.eval(pl.element().cast(pl.Datetime("us", "UTC")).to_physical()).list.sum(),
            pl.col("categories").list.join(","),
            *(pl.col(column).list.sum() for column in COUNTS),
        ).sort("user_id").collect()
        standing = shown if standing is None else standing
        same = [column for column in shown.columns if column not in COUNTS]
        assert shown.select(same).equals(standing.select(same)), f"{name}: other lists than {names[0]}"
        for column in COUNTS:
            assert np.allclose(shown[column], standing[column], rtol=1e-9), f"{name}: other {column} than {names[0]}"


if __name__ == "__main__":
    main()
