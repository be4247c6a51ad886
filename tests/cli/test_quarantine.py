"""What was refused can be seen, and tried again after a fix."""

from datetime import timedelta

import polars as pl
import pytest

from pipeline.partitions import Day
from pipeline.steps.behavior_logs import publish_events

DAY = Day.parse("2026-03-01")


@pytest.fixture
def a_day_with_an_unknown_type(settings, ledger, known_at):
    rows = [
        {
            "user_id": f"u{number}",
            "item_id": "i",
            "event_type": "tasting" if number < 2 else "view",
            "event_time": (DAY.start + timedelta(minutes=number)).isoformat(),
            "value": "1",
            "ingested_at": DAY.end.isoformat(),
        }
        for number in range(60)
    ]
    place = settings.landing_path / "behavior_events" / DAY.key / "a.csv"
    place.parent.mkdir(parents=True)
    pl.DataFrame(rows).write_csv(place)
    publish_events(DAY, settings, known_at)


def test_a_refused_row_is_shown_with_its_reason_and_place(interest, a_day_with_an_unknown_type):
    (refusal,) = interest("quarantine", DAY.key, "--json").json["reasons"]
    assert (refusal["reason"], refusal["rows"]) == ("event_type_not_allowed", 2)
    assert refusal["examples"][0]["detail"] == "tasting"
    assert refusal["examples"][0]["source_file"].endswith("a.csv")


def test_after_a_fix_the_refused_rows_are_published(interest, a_day_with_an_unknown_type, monkeypatch):
    monkeypatch.setenv("INTEREST_LOGS__EVENT_WEIGHTS", '{"view": 1, "tasting": 2}')
    replayed = interest("quarantine", DAY.key, "--replay", "--json").json
    assert (replayed["published"], replayed["quarantined"]) == (60, 0)
    assert interest("quarantine", DAY.key, "--json").json["reasons"] == []


def test_a_word_that_is_not_a_day_is_one_line(interest):
    answer = interest("quarantine", "2026-3x")
    assert answer.code == 2
    assert answer.err.startswith("error: Partition key '2026-3x' is not a day.")
