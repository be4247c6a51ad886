"""Days that take the files that were laid by for them: the table is what one write of all rows makes it."""

import itertools
from datetime import UTC, datetime

import polars as pl
import pytest
from pyarrow.parquet import ParquetFile

from pipeline.contracts import PARTITION_COLUMN, SEQUENCE_FEATURES
from pipeline.errors import ContractViolation
from pipeline.partitions import Day
from pipeline.stores.day_files import replace_days
from pipeline.stores.laid_rows import LaidRows
from pipeline.stores.row_groups import ROWS_A_GROUP
from pipeline.stores.single_rows import rows_at
from pipeline.stores.tables import Lake
from pipeline.stores.tombstones import Tombstones

DAYS = [Day.parse("2026-01-01").plus(number) for number in range(3)]
KNOWN_AT = datetime(2026, 2, 1, tzinfo=UTC)
USERS = 3 * ROWS_A_GROUP


def rows_of(users: range) -> pl.DataFrame:
    """A row for each user and day but the second, by user and day."""
    rows = pl.DataFrame({"user": users}).join(pl.DataFrame({"day": [DAYS[0].key, DAYS[2].key]}), how="cross").select(
        pl.format("u{}", pl.col("user").cast(pl.String).str.zfill(6)).alias("user_id"),
        pl.concat_list([pl.format("i{}", "user")] * 2).alias("item_ids"),
        pl.concat_list([pl.lit("view")] * 2).alias("event_types"),
        pl.concat_list([pl.lit(DAYS[0].start)] * 2).alias("event_times"),
        pl.lit(2).alias("num_events"),
        pl.col("day").str.to_datetime(time_zone="UTC").dt.offset_by("1d").dt.offset_by("-1us").alias("event_timestamp"),
        pl.lit(KNOWN_AT).alias("created"),
        pl.col("day").alias(PARTITION_COLUMN),
    )
    return rows.cast(dict(SEQUENCE_FEATURES.schema))


@pytest.fixture
def laid(tmp_path) -> LaidRows:
    laid = LaidRows(tmp_path / "scratch")
    for users in (range(0, USERS, 2), range(1, USERS, 2)):
        laid.lay(SEQUENCE_FEATURES, rows_of(users))
    return laid


def test_fresh_days_take_the_files_and_read_as_one_write_of_all_rows(lake: Lake, laid):
    done = replace_days(lake, SEQUENCE_FEATURES, DAYS, laid, {"run": "a"}, KNOWN_AT)
    whole = rows_of(range(USERS))
    assert (done.changed, done.rows) == (True, whole.height)
    assert laid.files(SEQUENCE_FEATURES, DAYS[0]) == [], "they were moved"
    assert lake.days(SEQUENCE_FEATURES) == [DAYS[0], DAYS[2]]
    assert lake.rows_by_day(SEQUENCE_FEATURES) == {DAYS[0]: USERS, DAYS[2]: USERS}
    found = lake.scan(SEQUENCE_FEATURES).sort("user_id", "event_timestamp").collect()
    assert found.equals(whole.drop(PARTITION_COLUMN))
    keys = whole.select("user_id", "event_timestamp")[5:7]
    assert rows_at(lake, SEQUENCE_FEATURES, keys).sort("user_id").equals(found[5:7])


def test_a_file_is_in_small_groups_by_user(lake: Lake, laid):
    replace_days(lake, SEQUENCE_FEATURES, DAYS, laid, {}, KNOWN_AT)
    for uri in lake.file_uris(SEQUENCE_FEATURES):
        with ParquetFile(uri) as file:
            groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        assert max(group.num_rows for group in groups) <= ROWS_A_GROUP < USERS / 2
        ends = [(group.column(0).statistics.min, group.column(0).statistics.max) for group in groups]
        assert ends == sorted(ends) and all(one[1] < other[0] for one, other in itertools.pairwise(ends))


def test_days_that_stand_are_not_written_again(lake: Lake, laid, tmp_path):
    first = replace_days(lake, SEQUENCE_FEATURES, DAYS, laid, {}, KNOWN_AT)
    again = LaidRows(tmp_path / "again")
    again.lay(SEQUENCE_FEATURES, rows_of(range(USERS)))
    done = replace_days(lake, SEQUENCE_FEATURES, DAYS, again, {}, KNOWN_AT)
    assert (done.changed, done.version, done.rows) == (False, first.version, first.rows)


def test_an_erased_user_does_not_come_back_with_a_file(lake: Lake, ledger, settings, laid):
    Tombstones.of(settings).add("u000007", "asked", KNOWN_AT)
    done = replace_days(Lake.of(settings), SEQUENCE_FEATURES, DAYS, laid, {}, KNOWN_AT)
    assert (done.erased, done.rows) == (2, 2 * USERS - 2)
    assert "u000007" not in lake.scan(SEQUENCE_FEATURES).collect()["user_id"]


def test_rows_that_do_not_fit_are_not_laid_by(tmp_path):
    with pytest.raises(ContractViolation, match="num_events"):
        LaidRows(tmp_path).lay(SEQUENCE_FEATURES, rows_of(range(3)).drop("num_events"))
