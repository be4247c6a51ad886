"""A process that died between a commit and the ledger: the next run of the step writes down what the commit said."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipeline.contracts import BEHAVIOR_EVENTS, INTEREST_WINDOWS, QUARANTINED_EVENTS, SEQUENCE_FEATURES
from pipeline.errors import EngineFailure
from pipeline.faults import arm
from pipeline.partitions import Day
from pipeline.steps.behavior_logs import publish_events
from pipeline.steps.ledger_news import catch_up, unheard
from pipeline.steps.sequence_features import build_features
from pipeline.stores.landing import Landing

DAYS = [Day.parse("2026-03-01"), Day.parse("2026-03-02")]
TABLES = (BEHAVIOR_EVENTS, QUARANTINED_EVENTS, SEQUENCE_FEATURES, INTEREST_WINDOWS)
NOW = datetime(2026, 3, 3, tzinfo=UTC)


def deliver(settings, day: Day, item: str) -> None:
    """Four events and one that is refused; only what they say of the item differs."""
    rows = [
        {
            "event_id": f"{day}-{number}",
            "user_id": f"u{number % 2}" if number < 4 else None,
            "item_id": item,
            "event_type": "view",
            "event_time": (day.start + timedelta(minutes=number)).isoformat(),
            "value": None,
            "ingested_at": day.end.isoformat(),
        }
        for number in range(5)
    ]
    Landing.of(settings).put(day, "a", pl.DataFrame(rows, dict.fromkeys(rows[0], pl.String())))


@pytest.fixture
def restated(settings, ledger):
    """Two days ran; the first was delivered anew, with other content and the same counts."""
    for day in DAYS:
        deliver(settings, day, "i1")
        publish_events(day, settings, NOW)
        build_features(day, settings, NOW)
    deliver(settings, DAYS[0], "i2")
    yield settings
    arm("")


def dies(point: str, step, settings) -> None:
    arm(point)
    with pytest.raises(EngineFailure, match="armed"):
        step(DAYS[0], settings, NOW)
    arm("")


@pytest.mark.parametrize(("step", "time"), [(publish_events, 1), (publish_events, 2), (build_features, 1)])
def test_a_day_that_changed_and_kept_its_counts_is_told_anew(restated, lake, ledger, step, time):
    if step is build_features:
        publish_events(DAYS[0], restated, NOW)
    dies(f"publish.after_commit:raise:{time}", step, restated)
    assert any(unheard(lake, ledger, table) for table in TABLES)

    publish_events(DAYS[0], restated, NOW)
    build_features(DAYS[0], restated, NOW)

    assert [unheard(lake, ledger, table) for table in TABLES] == [{}] * len(TABLES)


def test_what_was_heard_is_not_heard_again(restated, lake, ledger):
    before = ledger.partitions()
    catch_up(lake, ledger, *TABLES)
    assert ledger.partitions() == before
