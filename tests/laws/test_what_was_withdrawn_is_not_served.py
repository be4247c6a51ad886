"""A correction may leave a user without the events of the newest day: then what is served goes back, on request."""

from datetime import UTC, datetime, timedelta

import polars as pl

from pipeline.contracts import BEHAVIOR_EVENTS, INTEREST_WINDOWS, SEQUENCE_FEATURES
from pipeline.partitions import Day
from pipeline.steps.online_withdrawals import withdraw_online
from pipeline.steps.sequence_features import build_features, build_history, publish_features, push_features
from pipeline.stores.ledger import Ledger
from pipeline.stores.served_rows import served_keys, served_rows
from pipeline.stores.tables import Lake

FIRST, SECOND = Day.parse("2026-03-01"), Day.parse("2026-03-02")
NOW = datetime(2026, 4, 1, tzinfo=UTC)


def publish(lake: Lake, day: Day, users: list[str]) -> None:
    rows = [(f"{day}-{user}", user, "i1", "view", day.start, None, day.end) for user in users]
    lake.replace(BEHAVIOR_EVENTS, day, pl.DataFrame(rows, BEHAVIOR_EVENTS.schema, orient="row"))


def test_a_withdrawn_user_is_served_the_newest_row_that_stands_and_nobody_else_is_touched(online):
    Ledger(online.ledger_url).migrate()
    lake = Lake.of(online)
    publish(lake, FIRST, ["stays", "went back"])
    publish(lake, SECOND, ["stays", "went back", "went"])
    build_history(FIRST, SECOND, online, NOW)
    push_features(FIRST, online, SECOND)
    before = served_rows(online, SEQUENCE_FEATURES, ["stays"])

    publish(lake, SECOND, ["stays"])
    publish_features(SECOND, online, NOW + timedelta(hours=1))
    ahead = served_rows(online, SEQUENCE_FEATURES, ["went back"])
    assert ahead["event_timestamp"].to_list() == [SECOND.as_of], "the fence takes nothing older"

    withdrawn = withdraw_online(online, NOW)
    assert withdrawn.users == 2 and withdrawn.served_again[SEQUENCE_FEATURES.name] == 1
    assert sorted(withdrawn.views) == ["interest_windows", "sequence_features"]
    back = served_rows(online, SEQUENCE_FEATURES, ["went back"])
    assert back["event_timestamp"].to_list() == [FIRST.as_of] and back["num_events"].to_list() == [1]
    assert served_rows(online, SEQUENCE_FEATURES, ["stays"]).equals(before)
    assert sorted(served_keys(online, SEQUENCE_FEATURES.name)) == ["stays", "went back"]
    assert withdraw_online(online, NOW).users == 0


def test_who_loses_an_earlier_day_is_served_without_it_also_after_a_run_that_died_before_its_push(online):
    lake, users = Lake.of(online), ["lost a day", "kept it"]
    first, third = Day.parse("2026-05-01"), Day.parse("2026-05-03")
    for day in (first, third):
        publish(lake, day, users)
    build_history(first, third, online, NOW)
    push_features(first, online, third)

    publish(lake, first, ["kept it"])
    build_features(first, online, NOW + timedelta(hours=1))             # it dies here, and is made again
    again = publish_features(first, online, NOW + timedelta(hours=2))
    assert not again.built.changed and [rows.accepted for rows in again.pushed] == [1, 1]
    served = served_rows(online, SEQUENCE_FEATURES, users).sort("user_id")
    assert served.select("user_id", "num_events").rows() == [("kept it", 2), ("lost a day", 1)]
    assert served["event_timestamp"].to_list() == [third.as_of] * 2
    (windows,) = served_rows(online, INTEREST_WINDOWS, ["lost a day"]).to_dicts()
    stands = lake.current(INTEREST_WINDOWS, third, third).filter(pl.col("user_id") == "lost a day").drop("created")
    assert windows == stands.collect().to_dicts()[0]
