"""The lake keeps whole partitions, keeps corrections, and writes nothing twice."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipeline.contracts import BEHAVIOR_EVENTS, PARTITION_COLUMN, SEQUENCE_FEATURES, WITHDRAWN_AT, withdrawn_rows_of
from pipeline.errors import ContractViolation
from pipeline.partitions import Day
from pipeline.stores.tables import Lake

DAY = Day.parse("2026-01-01")
FIRST, SECOND, THIRD = (datetime(2026, 1, day, tzinfo=UTC) for day in (2, 3, 4))


def sequences(known_at: datetime, day: Day = DAY, **items_of_user: list[str]) -> pl.DataFrame:
    rows = [
        {
            "user_id": user,
            "item_ids": items,
            "event_types": ["view"] * len(items),
            "event_times": [day.start] * len(items),
            "num_events": len(items),
            "event_timestamp": day.as_of,
            "created": known_at,
        }
        for user, items in items_of_user.items()
    ]
    return pl.DataFrame(rows, schema=SEQUENCE_FEATURES.schema)


def test_the_same_partition_written_twice_is_one_version(lake: Lake):
    first = lake.replace(SEQUENCE_FEATURES, DAY, sequences(FIRST, u1=["a"], u2=["b"]))
    again = lake.replace(SEQUENCE_FEATURES, DAY, sequences(SECOND, u1=["a"], u2=["b"]))
    assert (first.changed, again.changed) == (True, False)
    assert again.version == first.version
    assert set(lake.read(SEQUENCE_FEATURES, DAY)["created"]) == {FIRST}


def test_a_correction_stands_beside_what_it_corrects(lake: Lake):
    lake.replace(SEQUENCE_FEATURES, DAY, sequences(FIRST, u1=["a"], u2=["b"]))
    lake.replace(SEQUENCE_FEATURES, DAY, sequences(SECOND, u1=["a", "c"], u2=["b"]))
    written = lake.read(SEQUENCE_FEATURES, DAY).select("user_id", "created").rows()
    assert written == [("u1", FIRST), ("u1", SECOND), ("u2", FIRST)]
    newest = lake.current(SEQUENCE_FEATURES).collect()
    assert newest["item_ids"].to_list() == [["a", "c"], ["b"]]


def test_a_correction_taken_back_is_a_new_version_too(lake: Lake):
    for known_at, items in ((FIRST, ["a"]), (SECOND, ["a", "c"]), (THIRD, ["a"])):
        lake.replace(SEQUENCE_FEATURES, DAY, sequences(known_at, u1=items))
    assert lake.read(SEQUENCE_FEATURES, DAY)["created"].to_list() == [FIRST, SECOND, THIRD]
    assert lake.current(SEQUENCE_FEATURES).collect()["item_ids"].to_list() == [["a"]]


@pytest.mark.parametrize("known_at", [FIRST, SECOND], ids=["known before what stands", "known at the same time"])
def test_what_was_written_last_is_the_newest_whatever_its_clock_says(lake: Lake, known_at: datetime):
    """A run that began earlier may write later, and a machine's clock may be behind."""
    lake.replace(SEQUENCE_FEATURES, DAY, sequences(SECOND, u1=["a"], u2=["b"]))
    late = sequences(known_at, u1=["a", "c"], u2=["b"], u3=["z"])
    lake.replace(SEQUENCE_FEATURES, DAY, late)
    assert not lake.replace(SEQUENCE_FEATURES, DAY, late).changed
    assert lake.current(SEQUENCE_FEATURES).collect()["item_ids"].to_list() == [["a", "c"], ["b"], ["z"]]
    written = lake.read(SEQUENCE_FEATURES, DAY).select("user_id", "created").rows()
    assert written == [("u1", SECOND), ("u1", SECOND + timedelta(microseconds=1)), ("u2", SECOND), ("u3", known_at)]


def test_no_row_is_withdrawn_before_it_was_created(lake: Lake):
    lake.replace(SEQUENCE_FEATURES, DAY, sequences(SECOND, u1=["a"], u2=["b"]))
    for known_at, left in ((FIRST, {"u2": ["b"]}), (THIRD, {})):
        lake.replace(SEQUENCE_FEATURES, DAY, sequences(known_at, **left), known_at=known_at)
    withdrawn = lake.scan(withdrawn_rows_of(SEQUENCE_FEATURES)).sort("user_id").collect()
    assert withdrawn.select("user_id", WITHDRAWN_AT).rows() == [("u1", SECOND), ("u2", THIRD)]


def test_replacing_one_day_leaves_the_others(lake: Lake):
    lake.replace(SEQUENCE_FEATURES, DAY, sequences(FIRST, u1=["a"]))
    lake.replace(SEQUENCE_FEATURES, DAY.plus(1), sequences(FIRST, DAY.plus(1), u1=["a", "b"]))
    lake.replace(SEQUENCE_FEATURES, DAY, sequences(SECOND, u2=["z"]))
    assert lake.days(SEQUENCE_FEATURES) == [DAY, DAY.plus(1)]
    assert lake.read(SEQUENCE_FEATURES, DAY)["user_id"].to_list() == ["u2"]
    assert lake.read(SEQUENCE_FEATURES, DAY.plus(1))["user_id"].to_list() == ["u1"]


def test_a_range_in_one_commit_equals_its_days_one_by_one(lake: Lake, tmp_path):
    other = Lake(str(tmp_path / "other"))
    days = [sequences(FIRST, DAY.plus(n), u1=["a"] * (n + 1)) for n in range(3)]
    for offset, frame in enumerate(days):
        other.replace(SEQUENCE_FEATURES, DAY.plus(offset), frame)
    whole = pl.concat(
        frame.with_columns(pl.lit(DAY.plus(offset).key).alias(PARTITION_COLUMN)) for offset, frame in enumerate(days)
    )
    committed = lake.replace_range(SEQUENCE_FEATURES, DAY, DAY.plus(2), whole)
    assert committed.version == 0
    assert lake.current(SEQUENCE_FEATURES).collect().equals(other.current(SEQUENCE_FEATURES).collect())


def test_an_emptied_day_holds_no_rows(lake: Lake):
    lake.replace(SEQUENCE_FEATURES, DAY, sequences(FIRST, u1=["a"]))
    lake.replace(SEQUENCE_FEATURES, DAY, SEQUENCE_FEATURES.empty())
    assert lake.days(SEQUENCE_FEATURES) == []
    assert lake.read(SEQUENCE_FEATURES, DAY).is_empty()


def test_a_table_that_was_never_written_reads_as_empty(lake: Lake):
    assert lake.read(BEHAVIOR_EVENTS, DAY).schema == BEHAVIOR_EVENTS.schema
    assert lake.version(BEHAVIOR_EVENTS) is None


def test_a_frame_that_breaks_the_contract_is_not_written(lake: Lake):
    wrong = sequences(FIRST, u1=["a"]).drop("num_events").with_columns(pl.lit(1).alias("user_id"))
    with pytest.raises(ContractViolation, match="num_events: expected Int64, found no such column"):
        lake.replace(SEQUENCE_FEATURES, DAY, wrong)
    assert not lake.exists(SEQUENCE_FEATURES)


def test_an_array_with_a_missing_element_is_not_written_and_what_stands_stays(lake: Lake):
    lake.replace(SEQUENCE_FEATURES, DAY, sequences(FIRST, u1=["a"]))
    holed = sequences(SECOND, u1=["a", "b"]).with_columns(pl.lit(pl.Series([["a", None]])).alias("item_ids"))
    with pytest.raises(ContractViolation, match="item_ids: 1 missing inside arrays"):
        lake.replace(SEQUENCE_FEATURES, DAY, holed)
    with pytest.raises(ContractViolation, match="item_ids: 1 missing inside arrays"):
        lake.rewrite_days(SEQUENCE_FEATURES, [DAY], holed.with_columns(pl.lit(DAY.key).alias(PARTITION_COLUMN)))
    assert lake.read(SEQUENCE_FEATURES, DAY)["item_ids"].to_list() == [["a"]]


def test_an_earlier_version_can_be_read_again(lake: Lake):
    before = lake.replace(SEQUENCE_FEATURES, DAY, sequences(FIRST, u1=["a"])).version
    lake.replace(SEQUENCE_FEATURES, DAY, sequences(SECOND, u1=["a", "b"]))
    assert lake.scan(SEQUENCE_FEATURES, version=before).collect()["num_events"].to_list() == [1]
