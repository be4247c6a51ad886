"""The step: one commit a table, the state from the tables, any order of days ends in the same rows."""

import itertools
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipeline.contracts import BEHAVIOR_EVENTS, INTEREST_WINDOWS, ITEMS, SEQUENCE_FEATURES
from pipeline.errors import BadPartition, LogsMissing
from pipeline.features.day_ends import each_once
from pipeline.partitions import Day
from pipeline.settings import Logs
from pipeline.steps.sequence_features import build_features, build_history, draft_features

FIRST = Day.parse("2026-03-01")
USERS = ("anna", "bo", "cy", "di")
BOTH = (SEQUENCE_FEATURES, INTEREST_WINDOWS)


@pytest.fixture
def published(lake):
    """Six days of events, the fourth one empty, and a catalogue; returns the days."""
    days = [FIRST.plus(offset) for offset in range(6)]
    for number, day in enumerate(days):
        publish(lake, day, number)
    items = [(f"i{n}", f"item {n}", [f"c{n % 3}", f"c{n % 5}"], FIRST.start) for n in range(12)]
    lake.overwrite(ITEMS, pl.DataFrame(items, schema=ITEMS.schema, orient="row"))
    return days


def publish(lake, day, number, extra=()):
    rows = [
        (
            f"{day.key}-{user}-{n}",
            user,
            f"i{(7 * number + 3 * n + position) % 12}",
            "view",
            day.start + timedelta(hours=n, seconds=position),
            None,
            day.end,
        )
        for position, user in enumerate(USERS)
        for n in range(3)
        if number != 3 and (number + position) % 3
    ]
    rows += [
        (f"{day.key}-extra-{n}", user, item, "purchase", day.start + timedelta(hours=20), None, day.end)
        for n, (user, item) in enumerate(extra)
    ]
    lake.replace(BEHAVIOR_EVENTS, day, pl.DataFrame(rows, schema=BEHAVIOR_EVENTS.schema, orient="row"))


def content(lake, table):
    """The newest version of every row, without the time of writing."""
    return lake.current(table).collect().drop("created").sort(table.key)


def at(hour: int) -> datetime:
    return datetime(2026, 4, 1, tzinfo=UTC) + timedelta(hours=hour)


def test_a_history_in_one_pass_equals_the_days_one_by_one(lake, ledger, settings, published):
    built = build_history(published[0], published[-1], settings, at(0))
    whole = {table: content(lake, table) for table in BOTH}
    assert built.rows == whole[SEQUENCE_FEATURES].height > 10
    assert [lake.version(table) for table in BOTH] == [0, 0]
    lines = {
        table: [(line.partition, line.state, line.counts) for line in ledger.partitions(table.name)] for table in BOTH
    }

    for table in BOTH:
        lake.replace_range(table, published[0], published[-1], table.empty().with_columns(event_date=pl.lit("")))
    for day in published:
        build_features(day, settings, at(1))
    for table in BOTH:
        assert content(lake, table).equals(whole[table])
        now = [(line.partition, line.state, line.counts) for line in ledger.partitions(table.name)]
        assert now == lines[table]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_days_built_in_any_order_end_in_the_rows_of_a_clean_run(lake, ledger, settings, published, order):
    build_history(published[0], published[2], settings, at(0))
    clean = {table: content(lake, table) for table in BOTH}
    for table in BOTH:
        lake.replace_range(table, published[0], published[2], table.empty().with_columns(event_date=pl.lit("")))
    for hour, position in enumerate(order):
        build_features(published[position], settings, at(1 + hour))
    for table in BOTH:
        assert content(lake, table).equals(clean[table])


def test_building_again_changes_nothing(lake, ledger, settings, published):
    build_history(published[0], published[-1], settings, at(0))
    before = [(table.name, lake.version(table), ledger.partitions(table.name)) for table in BOTH]
    again = build_features(published[2], settings, at(9))
    build_history(published[0], published[-1], settings, at(10))
    assert not again.changed
    assert before == [(table.name, lake.version(table), ledger.partitions(table.name)) for table in BOTH]


def test_a_late_event_restates_the_users_later_days_in_the_same_commit(lake, ledger, settings, published):
    build_history(published[0], published[-1], settings, at(0))
    publish(lake, published[1], 1, extra=[("anna", "i5")])
    built = build_features(published[1], settings, at(5))
    assert built.later_rows > 0
    assert [lake.version(table) for table in BOTH] == [1, 1]
    restated = {table: content(lake, table) for table in BOTH}
    rewritten = lake.scan(SEQUENCE_FEATURES).filter(pl.col("created") == at(5)).collect()
    assert rewritten["user_id"].unique().to_list() == ["anna"]

    for table in BOTH:
        lake.replace_range(table, published[0], published[-1], table.empty().with_columns(event_date=pl.lit("")))
    build_history(published[0], published[-1], settings, at(6))
    for table in BOTH:
        assert content(lake, table).equals(restated[table])


def test_events_that_are_taken_back_take_their_rows_along(lake, ledger, settings, published):
    build_history(published[0], published[-1], settings, at(0))
    events = lake.read(BEHAVIOR_EVENTS, published[1])
    kept = events.filter(pl.col("user_id") != events["user_id"][0])
    lake.replace(BEHAVIOR_EVENTS, published[1], kept)
    assert build_features(published[1], settings, at(5)).later_rows > 0
    restated = {table: content(lake, table) for table in BOTH}
    for table in BOTH:
        lake.replace_range(table, published[0], published[-1], table.empty().with_columns(event_date=pl.lit("")))
    build_history(published[0], published[-1], settings, at(6))
    for table in BOTH:
        assert content(lake, table).equals(restated[table])


def test_a_bulk_history_pushes_each_users_newest_row_and_a_restated_old_day_changes_nothing_online(
    lake, ledger, settings, published
):
    from pipeline.steps.sequence_features import publish_features, push_features
    from pipeline.stores.feature_store import apply_definitions

    apply_definitions(settings)
    build_history(published[0], published[-1], settings, at(0))
    for rows in push_features(published[0], settings, published[-1]):
        assert (rows.rows, rows.accepted, rows.refused) == (len(USERS), len(USERS), 0)
    again = publish_features(published[0], settings, at(9))
    assert not again.built.changed
    assert sum(rows.accepted for rows in again.pushed) == 0
    publish(lake, published[1], 1, extra=[("anna", "i5")])
    late = publish_features(published[1], settings, at(10))
    assert [rows.accepted for rows in late.pushed] == [1, 1]


def test_a_corrected_row_stands_beside_the_one_it_corrects(lake, ledger, settings, published):
    build_history(published[0], published[-1], settings, at(0))
    publish(lake, published[-1], 5, extra=[("anna", "i5")])
    build_features(published[-1], settings, at(5))
    rows = lake.read(SEQUENCE_FEATURES, published[-1]).filter(pl.col("user_id") == "anna")
    assert len({tuple(row) for row in rows["item_ids"].to_list()}) == rows.height
    assert rows["created"].to_list()[-1] == at(5)


def test_an_empty_day_is_recorded_as_empty(lake, ledger, settings, published):
    build_history(published[0], published[-1], settings, at(0))
    assert ledger.partition("sequence_features", published[3].key).state == "empty"
    assert ledger.partition("interest_windows", published[2].key).counts["rows"] > 0


def test_without_any_published_event_the_step_says_so(settings, ledger):
    with pytest.raises(LogsMissing, match="behavior_events"):
        build_features(FIRST, settings, at(0))


def test_a_reversed_range_is_refused(lake, ledger, settings, published):
    with pytest.raises(BadPartition, match="reversed"):
        build_history(published[3], published[0], settings, at(0))


@pytest.mark.parametrize("budget_mb", [4_000.0, 0.01], ids=["in memory", "in buckets"])
def test_an_event_in_the_files_of_two_days_counts_once(lake, ledger, settings, published, budget_mb):
    days = published[:3]
    features = settings.features.model_copy(update={"memory_budget_mb": budget_mb})
    tolerant = settings.model_copy(update={"features": features, "logs": Logs(day_end_tolerance_minutes=10)})
    build_history(days[0], days[-1], tolerant, at(0))
    clean = {table: content(lake, table) for table in BOTH}
    lines = [(line.partition, line.counts) for line in ledger.partitions(SEQUENCE_FEATURES.name)]
    first = [lake.read(BEHAVIOR_EVENTS, day).filter(pl.col("event_time") < day.start + timedelta(minutes=10))
             for day in days[1:]]
    assert all(frame.height for frame in first)
    for day, spilled in zip(days, first, strict=False):
        lake.replace(BEHAVIOR_EVENTS, day, pl.concat([lake.read(BEHAVIOR_EVENTS, day), spilled]))
    for table in BOTH:
        lake.replace_range(table, days[0], days[-1], table.empty().with_columns(event_date=pl.lit("")))
    build_history(days[0], days[-1], tolerant, at(1))
    for table in BOTH:
        assert content(lake, table).equals(clean[table])
        drafted = draft_features(days[1], tolerant, at(2))[table].drop("created").sort(table.key)
        assert drafted.equals(clean[table].filter(pl.col("event_timestamp") == days[1].as_of))
    assert [(line.partition, line.counts) for line in ledger.partitions(SEQUENCE_FEATURES.name)] == lines


def test_of_two_events_of_one_id_the_same_one_counts_in_any_order():
    midnight = FIRST.start
    rows = [("a", "anna", item, "view", midnight + timedelta(minutes=2), None, midnight) for item in ("i1", "i2")]
    rows += [(name, "anna", "i3", "view", midnight + timedelta(minutes=30), None, midnight) for name in ("a", "b", "b")]
    for given in (rows, rows[::-1]):
        events = pl.DataFrame(given, BEHAVIOR_EVENTS.schema, orient="row").lazy()
        kept = each_once(events, timedelta(minutes=10)).collect().sort("event_time", "event_id")
        assert kept.select("event_id", "item_id").rows() == [("a", "i2"), ("a", "i3"), ("b", "i3"), ("b", "i3")]
        assert each_once(events, timedelta(0)).collect().height == 5
