"""
A point-in-time training set of four views: `training_set` beside a hand-written Polars `join_asof` for each view.

    python benchmarks/training_set.py                     # 50,000 rows
    python benchmarks/training_set.py --rows 1000000

The tables lie in a lake, written as the steps write them: a partition a day, corrections beside what they correct.
Both contenders read the same rows of users and times, in no order, and write the set as Parquet; what they wrote is
compared value by value. Ours also checks, counts and hashes what comes out, and writes the manifest.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
from feature_world import A_DAY, FIRST, circumstances, in_fresh_process, measured, print_beside_polars

from pipeline.contracts import (
    INTEREST_WINDOWS,
    LONG_TERM_INTEREST,
    PARTITION_COLUMN,
    RECOMMENDATIONS,
    SEQUENCE_FEATURES,
    UTC_TIME,
    Table,
)

SERVICE = "benchmark_v1"
KEYS_AND_CLOCKS = ("user_id", "event_timestamp", "created")
VIEWS = {
    SEQUENCE_FEATURES: ["item_ids", "event_types", "event_times"],
    INTEREST_WINDOWS: [name for name in INTEREST_WINDOWS.names if name not in KEYS_AND_CLOCKS],
    LONG_TERM_INTEREST: ["vector", "space_id", "model_version", "model_cutoff"],
    RECOMMENDATIONS: ["scores"],
}
EXPIRES = {LONG_TERM_INTEREST: timedelta(days=28), RECOMMENDATIONS: timedelta(days=28)}
SIZES = {"item_ids": 20, "event_types": 20, "event_times": 20, "vector": 64, "scores": 20, "top_categories": 5}
CATEGORIES = 12
"""Of a row of the interest windows."""
ACTIVE, CORRECTED = 0.25, 0.02
"""The share of users with a row on a day, and of rows that were written again two days later."""
DAYS_AT_ONCE = 30
ROWS_AT_ONCE = 50_000
KNOWN_AT = FIRST + timedelta(days=1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--days", type=int, default=180)
    parser.add_argument("--home", type=Path, help="a folder that holds the tables, or is to keep them")
    parser.add_argument("--one", nargs=2, metavar=("CONTENDER", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        name, folder = given.one
        print(json.dumps(measured(lambda: CONTENDERS[name](Path(folder)))))
        return
    with tempfile.TemporaryDirectory(prefix="training-set-") as scratch:
        folder = given.home or Path(scratch)
        if not (folder / "rows.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "rows.json").write_text(json.dumps(write_world(folder, given.users, given.days)))
        standing = json.loads((folder / "rows.json").read_text())
        asked_rows(given.rows, given.users, given.days).write_parquet(folder / "asked.parquet")
        found = {name: in_fresh_process(__file__, "--one", name, folder) for name in CONTENDERS}
        compare(folder)
        title = (
            f"{given.rows:,} rows x {len(VIEWS)} views of {standing:,} rows each, {given.users:,} users, "
            f"{given.days} days;\n{circumstances()}"
        )
        print_beside_polars(title, found)


def ours(folder: Path) -> None:
    from pipeline.serving.training_set import save_training_set, training_set
    from pipeline.settings import Settings

    asked = pl.read_parquet(folder / "asked.parquet")
    made = training_set(asked, SERVICE, Settings.load(home=folder / "home"), known_at=KNOWN_AT)
    save_training_set(made, folder / "ours.parquet")


def hand_written_polars(folder: Path) -> None:
    asked = pl.read_parquet(folder / "asked.parquet").with_row_index("place").sort("event_timestamp")
    for table, features in VIEWS.items():
        rows = pl.scan_delta(str(folder / "home" / "lake" / table.name))
        rows = rows.select("user_id", "event_timestamp", "created", *features).sort("event_timestamp", "created")
        asked = asked.join_asof(
            rows.drop("created").collect(), on="event_timestamp", by="user_id", strategy="backward",
            tolerance=EXPIRES.get(table), check_sortedness=False,
        )
    asked.sort("place").drop("place").write_parquet(folder / "hand-written Polars.parquet")


CONTENDERS: dict[str, Callable[[Path], None]] = {"ours": ours, "hand-written Polars": hand_written_polars}


def compare(folder: Path) -> None:
    """Both must have written the same, row by row; raises AssertionError."""
    sets = [pl.scan_parquet(folder / f"{name}.parquet") for name in CONTENDERS]
    names = sets[0].collect_schema().names()
    rows = {frame.select(pl.len()).collect().item() for frame in sets}
    assert len(rows) == 1, f"{rows} rows"
    for at in range(0, rows.pop(), ROWS_AT_ONCE):
        one, other = (frame.select(names).slice(at, ROWS_AT_ONCE).collect() for frame in sets)
        assert one.equals(other), f"other rows from {at} on"


def asked_rows(rows: int, users: int, days: int, seed: int = 11) -> pl.DataFrame:
    """Users, some unknown, at random moments, with a label."""
    rng = np.random.default_rng(seed)
    when = rng.integers(0, days * A_DAY, size=rows) + int(FIRST.timestamp()) * 1_000_000
    return pl.DataFrame(
        {
            "user_id": pl.Series(rng.integers(0, int(users * 1.02), size=rows)),
            "event_timestamp": pl.Series(when).cast(UTC_TIME),
            "label": rng.integers(0, 2, size=rows),
        }
    ).with_columns(pl.format("u{}", pl.col("user_id").cast(pl.String).str.zfill(8)))


def write_world(folder: Path, users: int, days: int) -> int:
    """A home with the four tables and a service over them; returns the rows of the first table."""
    from pipeline.settings import Settings
    from pipeline.stores.feature_store import apply_definitions, open_feature_store
    from pipeline.stores.ledger import Ledger
    from pipeline.stores.tables import Lake

    settings = Settings.load(home=folder / "home")
    apply_definitions(settings)
    Ledger(settings.ledger_url).migrate()
    lake, held = Lake.of(settings), 0
    for seed, table in enumerate(VIEWS):
        for first, last, frame in ranges_of(table, users, days, seed):
            lake.replace_range(table, first, last, frame)
            held += frame.height if seed == 0 else 0
    from feast import FeatureService

    store = open_feature_store(settings)
    views = [store.get_feature_view(table.name)[features] for table, features in VIEWS.items()]
    store.apply([FeatureService(name=SERVICE, features=views)])
    return held


def ranges_of(table: Table, users: int, days: int, seed: int) -> Iterator[tuple]:
    """First day, last day and rows of one month after the other."""
    from pipeline.partitions import Day

    rng, begin = np.random.default_rng(seed), Day.parse(str(FIRST.date()))
    for at in range(0, days, DAYS_AT_ONCE):
        month = min(DAYS_AT_ONCE, days - at)
        user, day = np.nonzero(rng.random((users, month)) < ACTIVE)
        frame = filled(table, user, day + at, rng)
        again = rng.random(frame.height) < CORRECTED
        later = filled(table, user[again], day[again] + at, rng).with_columns(
            pl.col("created") + pl.duration(days=2)
        )
        frame = pl.concat([frame, later])
        frame = frame.with_columns(pl.col("event_timestamp").dt.date().cast(pl.String).alias(PARTITION_COLUMN))
        yield begin.plus(at), begin.plus(at + month - 1), frame


def filled(table: Table, user: np.ndarray, day: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    """Rows of a table's contract, with random content."""
    ends = pl.Series((day + 1) * A_DAY - 1 + int(FIRST.timestamp()) * 1_000_000).cast(UTC_TIME)
    columns: dict[str, pl.Series] = {}
    for name, dtype in table.schema.items():
        size = SIZES.get(name, CATEGORIES)
        inner = dtype.inner if isinstance(dtype, pl.List) else dtype
        drawn = rng.integers(0, 5_000, size=len(user) * (size if isinstance(dtype, pl.List) else 1))
        values = pl.Series(drawn).cast(pl.Int64)
        if inner == pl.String():
            values = "i" + values.cast(pl.String).str.zfill(6)
        elif inner == UTC_TIME:
            values = (values * 1_000_000 + int(FIRST.timestamp()) * 1_000_000).cast(UTC_TIME)
        else:
            values = values.cast(inner)
        columns[name] = values.reshape((len(user), size)).arr.to_list() if isinstance(dtype, pl.List) else values
    columns |= {
        "user_id": "u" + pl.Series(user).cast(pl.String).str.zfill(8),
        "event_timestamp": ends,
        "created": ends.dt.offset_by("2h"),
    }
    return pl.DataFrame(columns, schema=table.schema)


if __name__ == "__main__":
    main()
