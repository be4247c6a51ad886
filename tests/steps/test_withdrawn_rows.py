"""A row that a restatement takes away stays known as of before, and is neither served nor trained on after."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipeline.contracts import (
    BEHAVIOR_EVENTS,
    INTEREST_WINDOWS,
    SEQUENCE_FEATURES,
    UTC_TIME,
    WITHDRAWN_AT,
    withdrawn_rows_of,
)
from pipeline.errors import EngineFailure
from pipeline.faults import arm
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.steps.erasure import forget_user
from pipeline.steps.feature_history import feature_history
from pipeline.steps.maintenance import maintain_lake
from pipeline.steps.sequence_features import build_features, build_history
from pipeline.stores.tables import Lake

FIRST, SECOND = Day.parse("2026-03-01"), Day.parse("2026-03-02")
ON_TIME, CORRECTED, TAKEN_BACK = (datetime(2026, 3, day, tzinfo=UTC) for day in (4, 6, 8))
BESIDE = withdrawn_rows_of(SEQUENCE_FEATURES)


def publish(lake: Lake, day: Day, **items_of: str) -> None:
    rows = [
        (f"{day}-{user}-{item}", user, item, "view", day.start, None, day.end)
        for user, items in items_of.items()
        for item in items
    ]
    lake.replace(BEHAVIOR_EVENTS, day, pl.DataFrame(rows, BEHAVIOR_EVENTS.schema, orient="row"))


@pytest.fixture
def taken_back(settings: Settings, lake, ledger) -> Lake:
    """Anna's second day was corrected, and then taken back whole. Ben's rows stand."""
    publish(lake, FIRST, anna="a", ben="x")
    publish(lake, SECOND, anna="b", ben="y")
    build_history(FIRST, SECOND, settings, ON_TIME)
    publish(lake, SECOND, anna="bc", ben="y")
    build_features(SECOND, settings, CORRECTED)
    publish(lake, SECOND, ben="y")
    build_features(SECOND, settings, TAKEN_BACK)
    return lake


def known(settings: Settings, user: str) -> list[tuple]:
    rows = feature_history(user, settings, SEQUENCE_FEATURES.name).rows
    return [(row.values["item_ids"]["last"], row.created, row.withdrawn, row.is_current) for row in rows]


def test_the_history_shows_what_was_known_until_it_was_withdrawn(taken_back, settings):
    assert known(settings, "anna") == [
        (["a"], ON_TIME, None, True),
        (["a", "b"], ON_TIME, TAKEN_BACK, False),
        (["a", "b", "c"], CORRECTED, TAKEN_BACK, False),
    ]
    assert taken_back.scan(withdrawn_rows_of(INTEREST_WINDOWS)).collect().height == 2


def test_a_row_that_comes_back_is_known_anew(taken_back, settings):
    again = TAKEN_BACK + timedelta(days=1)
    publish(taken_back, SECOND, anna="b", ben="y")
    build_features(SECOND, settings, again)
    assert known(settings, "anna")[-1] == (["a", "b"], again, None, True)
    assert [row[2] for row in known(settings, "anna")] == [None, TAKEN_BACK, TAKEN_BACK, None]
    maintain_lake(settings, again)
    assert len(known(settings, "anna")) == 4


def test_as_served_a_training_row_sees_it_until_then_and_no_other_read_ever_does(taken_back, settings):
    from pipeline.serving.training_set import repeat_training_set, training_set
    from pipeline.stores.feature_store import apply_definitions

    apply_definitions(settings)
    moments = [ON_TIME, CORRECTED, TAKEN_BACK - timedelta(microseconds=1), TAKEN_BACK]
    asked = pl.DataFrame({"user_id": ["anna"] * 4, "event_timestamp": pl.Series(moments, dtype=UTC_TIME)})
    served = training_set(asked, "training_v1", settings, known_at=TAKEN_BACK, as_served=True)
    assert served.rows["item_ids"].to_list() == [["a", "b"], ["a", "b", "c"], ["a", "b", "c"], ["a"]]
    assert training_set(asked, "training_v1", settings, known_at=TAKEN_BACK).rows["item_ids"].to_list() == [["a"]] * 4

    assert served.manifest.versions[BESIDE.name] == taken_back.version(BESIDE)
    publish(taken_back, SECOND, anna="z")
    build_features(SECOND, settings, TAKEN_BACK + timedelta(days=1))
    again, differences = repeat_training_set(served.manifest, asked, settings, TAKEN_BACK)
    assert (differences, again.rows.equals(served.rows)) == ([], True)


def test_a_restatement_that_dies_before_it_withdraws_has_withdrawn_nothing(settings, lake, ledger):
    publish(lake, FIRST, anna="a", ben="x")
    build_features(FIRST, settings, ON_TIME)
    publish(lake, FIRST, ben="x")
    arm("publish.after_commit:raise")
    try:
        with pytest.raises(EngineFailure):
            build_features(FIRST, settings, CORRECTED)
    finally:
        arm("")
    assert lake.scan(BESIDE).collect().height == 1, "it died between the two commits"
    assert known(settings, "anna") == [(["a"], ON_TIME, None, True)]
    build_features(FIRST, settings, TAKEN_BACK)
    assert known(settings, "anna") == [(["a"], ON_TIME, TAKEN_BACK, False)]


def test_an_erased_user_leaves_the_withdrawn_rows_too_and_is_not_laid_by_there(taken_back, settings):
    receipt = forget_user("anna", "asked", settings, TAKEN_BACK + timedelta(days=1))
    assert receipt.is_verified and receipt.place(BESIDE.name).removed == 2
    assert taken_back.scan(BESIDE).collect().is_empty() and known(settings, "anna") == []
    forget_user("ben", "asked", settings, TAKEN_BACK + timedelta(days=1))
    build_history(FIRST, SECOND, settings, TAKEN_BACK + timedelta(days=2))
    assert taken_back.scan(BESIDE).collect().is_empty()


def test_a_history_built_in_bulk_lays_by_what_it_takes_away(taken_back, settings, tmp_path):
    from pipeline.stores.day_files import replace_days
    from pipeline.stores.laid_rows import LaidRows

    lake, later = taken_back, TAKEN_BACK + timedelta(days=1)
    replace_days(lake, SEQUENCE_FEATURES, [SECOND], LaidRows(tmp_path), {}, later)
    assert lake.scan(BESIDE).collect().sort(WITHDRAWN_AT)["user_id"].to_list() == ["anna", "anna", "ben"]
    assert known(settings, "ben")[-1] == (["x", "y"], ON_TIME, later, False)
