"""Law 4 and law 5 through Feast: a row of time t is joined with what was true, and on request known, at t."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import polars as pl
import pytest

from pipeline.contracts import BEHAVIOR_EVENTS, INTEREST_WINDOWS, ITEMS, SEQUENCE_FEATURES
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.stores.ledger import Ledger
from pipeline.stores.tables import Lake

FIRST = Day.parse("2026-03-01")
SECOND = FIRST.plus(1)
ON_TIME = timedelta(hours=2)
CORRECTED_AT = FIRST.plus(5).start


@pytest.fixture(scope="module")
def home_with_a_correction(tmp_path_factory) -> Settings:
    """Two days built on time; five days later the first one is corrected by an event that had been missing."""
    from pipeline.steps.sequence_features import build_features
    from pipeline.stores.feature_store import apply_definitions

    settings = Settings.load(home=tmp_path_factory.mktemp("home"))
    apply_definitions(settings)
    Ledger(settings.ledger_url).migrate()
    lake = Lake.of(settings)
    lake.overwrite(ITEMS, pl.DataFrame([("i1", "one", ["books"], FIRST.start)], schema=ITEMS.schema, orient="row"))
    publish(lake, FIRST, "i1")
    publish(lake, SECOND, "i2")
    for day in (FIRST, SECOND):
        build_features(day, settings, day.end + ON_TIME)
    publish(lake, FIRST, "i1", "i3")
    build_features(FIRST, settings, CORRECTED_AT)
    return settings


def publish(lake: Lake, day: Day, *items: str) -> None:
    rows = [
        (f"{day}-{item}", "anna", item, "view", day.start + timedelta(hours=hour), None, day.end)
        for hour, item in enumerate(items)
    ]
    lake.replace(BEHAVIOR_EVENTS, day, pl.DataFrame(rows, schema=BEHAVIOR_EVENTS.schema, orient="row"))


def joined(settings: Settings, *moments: datetime, as_known: bool, user: str = "anna") -> list[list[str] | None]:
    """The user's items in the training service at each moment."""
    from pipeline.stores.feature_store import open_feature_store

    store = open_feature_store(settings)
    wanted = pd.DataFrame({"user_id": [user] * len(moments), "event_timestamp": list(moments)})
    rows = store.get_historical_features(
        wanted, features=store.get_feature_service("training_v1"), filter_by_created_timestamp=as_known
    ).to_df()
    assert len(rows) == len(wanted)
    rows = rows.sort_values("event_timestamp")
    return [list(items) if isinstance(items, list) or hasattr(items, "tolist") else None for items in rows["item_ids"]]


def test_a_moment_sees_the_days_that_had_ended(home_with_a_correction):
    before, during_second, after = FIRST.start, SECOND.start + timedelta(hours=9), SECOND.end
    assert joined(home_with_a_correction, before, during_second, after, as_known=False) == [
        None,
        ["i1", "i3"],
        ["i1", "i3", "i2"],
    ]


def test_with_the_created_filter_a_moment_sees_what_was_known_then(home_with_a_correction):
    on_time, corrected = SECOND.end + ON_TIME, CORRECTED_AT + timedelta(hours=1)
    assert joined(home_with_a_correction, on_time, corrected, as_known=True) == [["i1", "i2"], ["i1", "i3", "i2"]]


def test_a_row_that_was_not_written_yet_is_not_seen_by_the_created_filter(home_with_a_correction):
    moment = SECOND.end + ON_TIME / 2
    assert joined(home_with_a_correction, moment, as_known=True) == [["i1"]]
    assert joined(home_with_a_correction, moment, as_known=False) == [["i1", "i3", "i2"]]


def test_an_unknown_user_stays_in_the_training_set_without_features(home_with_a_correction):
    assert joined(home_with_a_correction, SECOND.end, SECOND.end, as_known=False, user="nobody") == [None, None]


def test_a_late_event_leaves_every_earlier_version_as_it_was(home_with_a_correction):
    lake = Lake(home_with_a_correction.lake_url)
    for table in (SEQUENCE_FEATURES, INTEREST_WINDOWS):
        versions = lake.scan(table).sort("event_timestamp", "created").collect()
        assert versions["event_timestamp"].to_list() == [FIRST.as_of] * 2 + [SECOND.as_of] * 2
        assert versions["created"].to_list() == [FIRST.end + ON_TIME, CORRECTED_AT, SECOND.end + ON_TIME, CORRECTED_AT]


def test_tables_that_were_never_written_join_as_empty(tmp_path):
    from pipeline.stores.feature_store import apply_definitions

    settings = Settings.load(home=tmp_path)
    apply_definitions(settings)
    assert joined(settings, datetime(2026, 3, 1, tzinfo=UTC), as_known=False) == [None]
