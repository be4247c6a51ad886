"""Upkeep changes files, never what a table says; versions within the kept time can still be read."""

from datetime import UTC, datetime, timedelta

import polars as pl
from deltalake import write_deltalake
from pyarrow.parquet import read_metadata

from pipeline.contracts import INTEREST_WINDOWS, LOOKUP_LOG, SEQUENCE_FEATURES
from pipeline.partitions import Day
from pipeline.steps.maintenance import maintain_lake
from pipeline.stores.row_groups import ROWS_A_GROUP

DAY = Day.parse("2026-03-01")
WRITTEN = datetime(2026, 4, 1, tzinfo=UTC)


def rows(users, day=DAY):
    return pl.DataFrame(
        [(user, ["i1"], ["view"], [day.start], 1, day.as_of, WRITTEN) for user in users],
        schema=SEQUENCE_FEATURES.schema,
        orient="row",
    )


def test_small_files_are_merged_and_every_version_still_says_the_same(lake, settings):
    lake.replace(SEQUENCE_FEATURES, DAY, rows(["anna"]))
    for user in ("bo", "cy", "di"):
        lake.open(SEQUENCE_FEATURES)  # each append leaves a file of its own, as a crash-safe writer does
        frame = rows([user]).with_columns(pl.lit(DAY.key).alias("event_date"))
        write_deltalake(lake.path(SEQUENCE_FEATURES), frame.to_arrow(), mode="append")
    before = lake.read(SEQUENCE_FEATURES, DAY)
    first = lake.scan(SEQUENCE_FEATURES, version=0).collect()
    (done,) = maintain_lake(settings, WRITTEN).tables
    assert (done.table, done.merged_files, done.written_files, done.deleted_files) == ("sequence_features", 4, 1, 0)
    assert len(lake.file_uris(SEQUENCE_FEATURES)) == 1
    assert lake.read(SEQUENCE_FEATURES, DAY).equals(before)
    assert lake.scan(SEQUENCE_FEATURES, version=0).collect().equals(first)
    again = maintain_lake(settings, WRITTEN).tables[0]
    assert (again.merged_files, again.deleted_files) == (0, 0)
    assert not lake.replace(SEQUENCE_FEATURES, DAY, before).changed


def test_merged_files_have_small_groups_of_rows_too(lake, settings):
    for part in range(3):
        frame = rows([f"u{part}{number:03d}" for number in range(500)]).with_columns(event_date=pl.lit(DAY.key))
        if part == 0:
            lake.replace(SEQUENCE_FEATURES, DAY, frame.drop("event_date"))
        else:
            write_deltalake(lake.path(SEQUENCE_FEATURES), frame.to_arrow(), mode="append")
    (done,) = maintain_lake(settings, WRITTEN).tables
    assert (done.merged_files, done.written_files) == (3, 1)
    (file,) = lake.file_uris(SEQUENCE_FEATURES)
    told = read_metadata(file)
    groups = [told.row_group(number).num_rows for number in range(told.num_row_groups)]
    assert sum(groups) == 1500 and max(groups) <= ROWS_A_GROUP


def test_what_no_kept_version_needs_is_deleted(lake, settings, tmp_path):
    import os
    from pathlib import Path

    lake.replace(SEQUENCE_FEATURES, DAY, rows(["anna"]))
    crashed = Path(lake.path(SEQUENCE_FEATURES)) / f"event_date={DAY.key}" / "part-crashed.parquet"
    crashed.write_bytes(b"half a file")
    long_ago = (datetime.now(UTC) - timedelta(days=200)).timestamp()
    os.utime(crashed, (long_ago, long_ago))
    (done,) = maintain_lake(settings, WRITTEN).tables
    assert done.deleted_files == 1
    assert not crashed.exists()
    assert lake.read(SEQUENCE_FEATURES, DAY).height == 1
    assert not lake.exists(INTEREST_WINDOWS)


def test_look_ups_are_kept_for_so_many_days_and_then_gone_from_every_version(lake, settings):
    assert maintain_lake(settings, WRITTEN).forgotten_lookups == 0
    edge = WRITTEN - timedelta(days=settings.lookups.keep_days)
    moments = {"old": edge - timedelta(microseconds=1), "edge": edge, "new": WRITTEN}
    for name, moment in moments.items():
        row = (name, "anna", "ranking_v1", "long_term_interest", ["vector"], None, None, moment, moment)
        lake.append(LOOKUP_LOG, pl.DataFrame([row], schema=LOOKUP_LOG.schema, orient="row"))
    assert maintain_lake(settings, WRITTEN).forgotten_lookups == 1
    assert sorted(lake.scan(LOOKUP_LOG).collect()["lookup_id"]) == ["edge", "new"]
    assert maintain_lake(settings, WRITTEN).forgotten_lookups == 0
