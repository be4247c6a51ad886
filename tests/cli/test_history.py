"""What was known of a user and when can be seen, under the id that the log gave."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipeline.contracts import BEHAVIOR_EVENTS, LONG_TERM_INTEREST
from pipeline.partitions import Day
from pipeline.serving.user_ids import UserIds
from pipeline.steps.sequence_features import build_features, build_history

DAY = Day.parse("2026-03-01")
MONDAY, FRIDAY = datetime(2026, 3, 9, tzinfo=UTC), datetime(2026, 3, 13, tzinfo=UTC)


def publish(lake, day: Day, user: str, items: list[str]) -> None:
    rows = [
        (f"{day}-{n}", user, item, "view", day.start + timedelta(hours=n), None, day.end)
        for n, item in enumerate(items)
    ]
    lake.replace(BEHAVIOR_EVENTS, day, pl.DataFrame(rows, BEHAVIOR_EVENTS.schema, orient="row"))


@pytest.fixture
def corrected(settings, lake, ledger):
    """Two days of one user, the first of which got another event on Friday; and a vector."""
    user = UserIds.of(settings).stored_id("anna")
    publish(lake, DAY, user, ["a", "b"])
    publish(lake, DAY.plus(1), user, ["c"])
    build_history(DAY, DAY.plus(1), settings, MONDAY)
    publish(lake, DAY, user, ["a", "b", "x"])
    build_features(DAY, settings, FRIDAY)
    vector = (user, [1.0, 0.0], "space-1", 3, DAY.start, DAY.as_of, MONDAY)
    lake.replace(LONG_TERM_INTEREST, DAY, pl.DataFrame([vector], LONG_TERM_INTEREST.schema, orient="row"))


def test_every_version_of_a_row_is_shown_with_when_it_was_known(interest, corrected):
    found = interest("history", "anna", "--view", "sequence_features", "--json").json
    assert found["status"] == "found"
    known = [(r["event_timestamp"][:10], r["created"][:10], r["values"]["item_ids"]["last"]) for r in found["rows"]]
    assert known == [
        ("2026-03-01", "2026-03-09", ["a", "b"]),
        ("2026-03-01", "2026-03-13", ["a", "b", "x"]),
        ("2026-03-02", "2026-03-09", ["a", "b", "c"]),
        ("2026-03-02", "2026-03-13", ["b", "x", "c"]),
    ]
    assert [r["is_current"] for r in found["rows"]] == [False, True, False, True]


def test_a_person_reads_it_with_model_cutoff_and_space(interest, corrected):
    answer = interest("history", "anna")
    assert answer.code == 0
    assert "2026-03-01 23:59:59, known from 2026-03-09 00:00:00  (corrected later)" in answer.out
    assert "vector 2 numbers; model version 3, cutoff 2026-03-01 00:00:00, space space-1" in answer.out


def test_a_user_is_found_by_the_id_of_the_log_where_ids_are_pseudonyms(monkeypatch, request):
    monkeypatch.setenv("INTEREST_PRIVACY__PSEUDONYMISE", "true")
    interest = request.getfixturevalue("interest")
    request.getfixturevalue("corrected")
    answer = interest("history", "anna", "--json")
    assert (answer.code, answer.json["user_id"], len(answer.json["rows"])) == (0, "anna", 9)


def test_who_was_never_seen_is_not_found(interest, corrected):
    answer = interest("history", "nobody", "--json")
    assert (answer.code, answer.json["status"], answer.json["rows"]) == (2, "not_found", [])
    assert "no feature row of user 'nobody'" in answer.err


def test_a_view_that_keeps_no_versions_is_told_with_those_that_do(interest, corrected):
    answer = interest("history", "anna", "--view", "items")
    assert answer.code == 2 and "sequence_features" in answer.err
