"""Deliveries that are not as they should be: cut, doubled, shuffled, late, from the future, empty, or one huge user."""

import random
import time
from datetime import timedelta

import polars as pl
import pytest

from pipeline.contracts import BEHAVIOR_EVENTS, INTEREST_WINDOWS, QUARANTINED_EVENTS, SEQUENCE_FEATURES
from pipeline.stores.tables import Lake

pytestmark = [pytest.mark.faults_long, pytest.mark.timeout(900)]


@pytest.mark.fault("truncated Parquet, delivered again whole")
def test_a_truncated_file_stops_its_day_and_no_other(world, clean, days):
    file = next((world.settings.landing_path / "behavior_events" / days[2].key).glob("*.parquet"))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])

    ended = world.run("publish_events", days[2])

    assert (ended.code, ended.error) == (1, "UnreadableFile") and "a.parquet" in ended.says
    world.run_days([days[3]]).well()
    file.write_bytes(whole)
    world.run_days(days[2:]).well()
    world.must_be(clean)


@pytest.mark.fault("duplicated and shuffled events, days in any order")
def test_the_order_and_the_repetition_of_rows_and_days_do_not_matter(new_world, clean, days, collector):
    shuffle = random.Random(5)
    for day in days:
        rows = collector.rows_of(day)
        again = [row for row in rows if row["user_id"] and row["event_type"] != "unheard"][::2]
        shuffle.shuffle(rows)
        collector.deliver(new_world.settings, day, rows)
        collector.deliver(new_world.settings, day, again, "again.parquet")

    new_world.run_days([days[number] for number in (2, 0, 3, 1, 0)]).well()

    new_world.must_be(clean)


@pytest.mark.fault("late events, before and after their day ran")
def test_a_late_file_ends_in_the_state_of_one_that_was_in_time(homes, clean, days, collector):
    late = [
        collector.event(days[1], 200 + number, event_time=(days[1].start + timedelta(hours=number)).isoformat())
        for number in range(5)
    ]
    in_time = homes.put_back("delivered")
    collector.deliver(in_time.settings, days[1], late, "late.parquet")
    in_time.run_days(days).well()
    expected = in_time.hash()
    assert expected != clean

    world = homes.put_back("clean")
    collector.deliver(world.settings, days[1], late, "late.parquet")
    assert world.run("publish_events", days[1]).well()["quarantined"] == 2, "the late ones are good"
    world.run_days([days[1]]).well()

    world.must_be(expected)


@pytest.mark.fault("future events and a day's rows in another day's file")
def test_rows_of_another_time_are_kept_apart_and_counted(world, days, collector):
    day = days[2]
    stray = [
        collector.event(day, 300, event_time=(day.end + timedelta(days=400)).isoformat()),
        collector.event(day, 301, event_time=(day.start - timedelta(days=2)).isoformat()),
    ]
    collector.deliver(world.settings, day, stray, "stray.parquet")

    told = world.run("publish_events", day).well()

    assert told["quarantined"] == 4
    assert told["read"] == told["published"] + told["quarantined"] + told["duplicates"]
    times = Lake(world.settings.lake_url).read(BEHAVIOR_EVENTS, day)["event_time"]
    assert day.start <= times.min() and times.max() < day.end


@pytest.mark.fault("an empty day")
def test_an_empty_day_stops_unless_it_is_said_to_be_empty(world, clean, days):
    folder = world.settings.landing_path / "behavior_events" / days[2].key
    file = next(folder.glob("*.parquet"))
    whole = file.read_bytes()
    pl.read_parquet(file).clear().write_parquet(file)
    ended = world.run("publish_events", days[2])
    assert (ended.code, ended.error) == (1, "ContractViolation")

    file.unlink()
    (folder / "_no_events").touch()
    world.run_days(days[2:]).well()
    world.must_be_strictly_healthy()

    (folder / "_no_events").unlink()
    file.write_bytes(whole)
    world.run_days([days[2]]).well()
    world.must_be(clean)


@pytest.mark.fault("one user with a million events in a day")
def test_one_user_with_a_million_events_is_bounded_capped_and_flagged(world, days, collector):
    day, number = days[2], 1_000_000
    moments = (pl.lit(day.start) + pl.duration(milliseconds=pl.col("n") * 80)).dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
    huge = pl.select(n=pl.int_range(number)).select(
        event_id=pl.format("huge-{}", "n"),
        user_id=pl.lit("u0"),
        item_id=pl.format("i{}", pl.col("n") % 12),
        event_type=pl.lit("view"),
        event_time=moments,
        value=pl.lit(None, pl.String),
        ingested_at=pl.lit(day.end.isoformat()),
    )
    huge.write_parquet(world.settings.landing_path / "behavior_events" / day.key / "huge.parquet")
    began = time.monotonic()

    published = world.run("publish_events", day)
    built = world.run("build_features", day)

    assert time.monotonic() - began < 240
    assert max(published.peak_mb, built.peak_mb) < 4500
    assert published.well()["published"] > number
    assert any("events of one user" in warning for warning in published.told["warnings"])
    built.well()
    lake = Lake(world.settings.lake_url)
    row = lake.read(SEQUENCE_FEATURES, day).filter(pl.col("user_id") == "u0")
    assert row["item_ids"].list.len().to_list() == [world.settings.features.sequence_length]
    assert lake.read(INTEREST_WINDOWS, day).filter(pl.col("user_id") == "u0").height == 1


@pytest.mark.fault("unknown ids")
def test_items_that_nobody_described_are_kept_and_users_nobody_saw_are_answered(world, days, collector):
    collector.deliver(world.settings, days[2], [collector.event(days[2], 70, item_id="never heard of")], "odd.parquet")
    told = world.run("publish_events", days[2]).well()
    assert (told["unknown_items"], told["quarantined"]) == (1, 2)
    assert Lake(world.settings.lake_url).read(QUARANTINED_EVENTS, days[2])["reason"].n_unique() == 2
    world.run_days([days[2]]).well()
    answer = world.run("look_up", "nobody", "support_profile_v1", world.clock).well()
    assert {view["status"] for view in answer["views"].values()} == {"not_found"}
