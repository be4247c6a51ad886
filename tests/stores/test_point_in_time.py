"""The point-in-time join beside one that is written as the rule is said; and what of a table it reads."""

from datetime import timedelta
from pathlib import Path
from random import Random

import polars as pl
import pytest

from pipeline.contracts import LONG_TERM_INTEREST, PARTITION_COLUMN, UTC_TIME, WITHDRAWN_AT, Table, withdrawn_rows_of
from pipeline.partitions import Day
from pipeline.stores import point_in_time
from pipeline.stores.point_in_time import JoinedView, Snapshot, joined_at
from pipeline.stores.tables import Lake

FIRST = Day.parse("2026-03-01")
HOURS = 24 * 6
HOUR = timedelta(hours=1)
TTL = timedelta(days=2)

USERS = ("anna", "ben", "cleo")


def table_of(rows: list[tuple[str, int, int]]) -> pl.DataFrame:
    """A row for each user, hour of its event time, and hours until it was created. Its vector is its number."""
    made = [
        {
            "user_id": user,
            "vector": [float(number), float(number)],
            "space_id": f"s{number}",
            "model_version": number,
            "model_cutoff": FIRST.start,
            "event_timestamp": FIRST.start + hour * HOUR,
            "created": FIRST.start + (hour + delay) * HOUR,
        }
        for number, (user, hour, delay) in enumerate(rows)
    ]
    return pl.DataFrame(made, schema=LONG_TERM_INTEREST.schema)


def asked_of(pairs: list[tuple[str, int]]) -> pl.DataFrame:
    made = [(user, FIRST.start + hour * HOUR, number) for number, (user, hour) in enumerate(pairs)]
    return pl.DataFrame(made, {"who": pl.String, "at": UTC_TIME, "label": pl.Int64}, orient="row")


def in_files(folder: Path, frame: pl.DataFrame, table: Table = LONG_TERM_INTEREST) -> Snapshot:
    """The rows as a table's files would hold them, without the time that a commit takes."""
    folder.mkdir(exist_ok=True)
    days = frame.with_columns(pl.col("event_timestamp").dt.date().cast(pl.String).alias("day"))
    parts = {key: part.drop("day") for (key,), part in sorted(days.partition_by("day", as_dict=True).items())}
    for key, part in parts.items():
        part.write_parquet(folder / f"{key}.parquet")
    files = tuple(str(folder / f"{key}.parquet") for key in parts)
    return Snapshot(table, files, tuple(parts), tuple(part.height for part in parts.values()))


def written(folder: Path, frame: pl.DataFrame) -> Snapshot:
    lake = Lake(str(folder))
    day = pl.col("event_timestamp").dt.date().cast(pl.String).alias(PARTITION_COLUMN)
    lake.replace_range(LONG_TERM_INTEREST, FIRST, FIRST.plus(HOURS // 24), frame.with_columns(day))
    return Snapshot.of(LONG_TERM_INTEREST, lake.path(LONG_TERM_INTEREST), None, {})


def view_over(snapshot: Snapshot, ttl: timedelta | None = None) -> JoinedView:
    return JoinedView(snapshot, "user_id", "who", {"vector": "v", "model_version": "number"}, ttl)


def as_said(frame: pl.DataFrame, user: str, at, ttl: timedelta | None, as_known: bool) -> int | None:
    """The number of the newest row that is seen at a moment, by looking at all of them."""
    seen = [
        (row["event_timestamp"], row["created"], row["model_version"])
        for row in frame.iter_rows(named=True)
        if row["user_id"] == user
        and row["event_timestamp"] <= at
        and (ttl is None or row["event_timestamp"] + ttl >= at)
        and (not as_known or row["created"] <= at)
        and (row.get(WITHDRAWN_AT) is None or row[WITHDRAWN_AT] > at)
    ]
    return max(seen)[2] if seen else None


@pytest.mark.parametrize("seed", range(24))
def test_each_row_gets_the_newest_row_that_it_may_see(tmp_path, monkeypatch, seed):
    drawn = Random(seed)
    ttl, as_known = (None, TTL)[seed % 2], bool(seed // 2 % 2)
    rows = {(drawn.choice(USERS), drawn.randrange(HOURS), drawn.randrange(-30, 60)) for _ in range(drawn.randrange(60))}
    frame = table_of(sorted(rows))
    asked = asked_of([(drawn.choice(USERS), drawn.randrange(HOURS)) for _ in range(40)])
    monkeypatch.setattr(point_in_time, "ROWS_AT_ONCE", drawn.choice([1, 7, 1_000]))
    answer = joined_at(asked, "at", [view_over(in_files(tmp_path, frame), ttl)], as_known)
    assert answer.columns == ["who", "at", "label", "v", "number"]
    assert answer.select(asked.columns).equals(asked)
    expected = [as_said(frame, user, at, ttl, as_known) for user, at, _ in asked.iter_rows()]
    assert answer["number"].to_list() == expected
    assert answer["v"].to_list() == [None if number is None else [number, number] for number in expected]


@pytest.mark.parametrize("seed", range(24))
def test_as_known_a_row_that_was_withdrawn_is_seen_until_then(tmp_path, monkeypatch, seed):
    drawn = Random(seed)
    ttl = (None, TTL)[seed % 2]
    pairs = {(drawn.choice(USERS), drawn.randrange(HOURS)) for _ in range(drawn.randrange(40))}
    rows = [(user, hour, drawn.randrange(-30, 60)) for user, hour in sorted(pairs) for _ in range(drawn.randrange(3))]
    frame = table_of(rows).unique(["user_id", "event_timestamp", "created"], keep="last", maintain_order=True)
    keys = [*LONG_TERM_INTEREST.key]
    gone = frame.select(keys).unique(maintain_order=True).filter(pl.int_range(pl.len()) % 3 == 0)
    gone = gone.with_columns((pl.col("event_timestamp") + drawn.randrange(1, 90) * HOUR).alias(WITHDRAWN_AT))
    lost = frame.join(gone, on=keys).filter(pl.col(WITHDRAWN_AT) >= pl.col("created"))
    standing = frame.join(gone, on=keys, how="anti")
    died = standing.head(2).with_columns(pl.lit(FIRST.start).alias(WITHDRAWN_AT))
    beside = in_files(tmp_path / "beside", pl.concat([lost, died]), withdrawn_rows_of(LONG_TERM_INTEREST))
    monkeypatch.setattr(point_in_time, "ROWS_AT_ONCE", drawn.choice([1, 7, 1_000]))
    asked = asked_of([(drawn.choice(USERS), drawn.randrange(HOURS)) for _ in range(40)])
    view = view_over(in_files(tmp_path / "standing", standing).beside(beside), ttl)
    known = pl.concat([standing, lost], how="diagonal")
    expected = [as_said(known, user, at, ttl, as_known=True) for user, at, _ in asked.iter_rows()]
    assert joined_at(asked, "at", [view], as_known=True)["number"].to_list() == expected


def test_days_that_hold_no_answer_are_not_opened(tmp_path):
    """Their files are gone, and nobody misses them."""
    snapshot = written(tmp_path, table_of([("anna", hour, 2) for hour in range(0, HOURS, 6)]))
    assert snapshot.days == tuple(FIRST.plus(day).key for day in range(6))
    asked = asked_of([("anna", 3 * 24 + 1), ("anna", 3 * 24 + 20)])
    for day, file in zip(snapshot.days, snapshot.files, strict=True):
        if day not in (FIRST.plus(1).key, FIRST.plus(2).key, FIRST.plus(3).key):
            Path(file).unlink()
    answer = joined_at(asked, "at", [view_over(snapshot, TTL)], as_known=False)
    assert answer["number"].to_list() == [12, 15]
    with pytest.raises(FileNotFoundError):
        joined_at(asked, "at", [view_over(snapshot)], as_known=False)


def test_features_are_read_from_the_files_that_hold_an_answer_and_no_others(tmp_path, monkeypatch):
    snapshot = written(tmp_path, table_of([("anna", hour, 2) for hour in range(0, HOURS, 6)]))
    opened: list[tuple[tuple[str, ...], list[str]]] = []
    scan = Snapshot.scan
    monkeypatch.setattr(
        Snapshot, "scan", lambda this, columns: opened.append((this.days, list(columns))) or scan(this, columns)
    )
    joined_at(asked_of([("anna", 30), ("ben", 130)]), "at", [view_over(snapshot)], as_known=True)
    clocks, features = opened
    assert clocks == (snapshot.days, ["user_id", "event_timestamp", "created"])
    assert features == ((FIRST.plus(1).key,), ["vector", "model_version"])
