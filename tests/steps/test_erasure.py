"""Erasing goes on after a crash, tells which models have learned from the user, and is one command."""

import json
import re
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from typer.testing import CliRunner

from pipeline.contracts import BEHAVIOR_EVENTS, INTEREST_WINDOWS, RECOMMENDATIONS, SEQUENCE_FEATURES, TABLES
from pipeline.errors import EngineFailure, UserMistake
from pipeline.faults import arm
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.steps import erasure
from pipeline.stores.ledger import Ledger
from pipeline.stores.tables import Lake
from pipeline.stores.tombstones import Tombstones, names_users

NOW = datetime(2026, 2, 4, 9, tzinfo=UTC)
GONE = "u05"


@pytest.mark.parametrize("place", ["behavior_events", "sequence_features: old versions", "online store"])
def test_a_crash_in_the_middle_goes_on_when_it_is_asked_again(planted: Settings, monkeypatch, place: str):
    whole = erasure.places_of

    def broken(*arguments):
        places, _ = whole(*arguments)
        at = [found.name for found in places].index(place)

        def crash() -> None:
            places[at].remove()
            raise MemoryError("pulled the plug")

        return [*places[:at], type(places[at])(place, places[at].count, crash, places[at].left), *places[at + 1 :]], []

    monkeypatch.setattr(erasure, "places_of", broken)
    rows = Lake.of(planted).scan(BEHAVIOR_EVENTS).filter(user_id=GONE).collect().height
    with pytest.raises(MemoryError):
        erasure.forget_user(GONE, "asked", planted, NOW)
    assert Tombstones.of(planted).is_erased(GONE)  # barred before anything was removed
    monkeypatch.setattr(erasure, "places_of", whole)
    receipt = erasure.forget_user(GONE, "asked again", planted, NOW + timedelta(days=9))
    assert receipt.is_verified and receipt.asked_at == NOW and receipt.reason == "asked"
    assert receipt.place("behavior_events").removed == rows
    assert Ledger(planted.ledger_url).receipt(receipt.receipt).facts["first_event"] is not None


def test_versions_that_have_learned_from_the_user_are_named_with_the_next_training(trained: Settings, planted_start):
    from pipeline.serving.recommend import recommend
    from pipeline.stores.registry import Registry

    champion = Registry(trained).champion("collaborative_filter")
    receipt = erasure.forget_user(GONE, "asked", trained, NOW)
    assert [(entry.model, entry.status) for entry in receipt.trained_on] == [
        ("interest_evolution", "promoted"), ("collaborative_filter", "promoted"),
    ]
    assert {entry.unlearn_by for entry in receipt.trained_on} == {datetime(2026, 2, 9, tzinfo=UTC)}  # the Monday after
    assert receipt.first_event < receipt.trained_on[0].model_cutoff
    answer = recommend(trained, [GONE, "u06"], 3, NOW).by_user({}, NOW)
    assert [(one.user_id, one.status, one.fallback) for one in answer] == [
        (GONE, "not_found", True), ("u06", "found", False),
    ]
    # No file of a model names a user, so the checked files stay as they are and load.
    folder = Registry(trained).fetch(champion)
    assert not [f for f in folder.rglob("*") if f.is_file() and re.search(rb"\bu0[0-9]\b", f.read_bytes())]
    named = [f for f in trained.place("mlflow").rglob("*") if f.is_file() and re.search(rb"\bu05\b", f.read_bytes())]
    assert named == []


def test_a_model_keeps_an_example_that_is_nobodys(trained: Settings):
    from pipeline.stores.registry import Registry

    registry = Registry(trained)
    times = Lake.of(trained).scan(BEHAVIOR_EVENTS).select(pl.col("event_time").dt.epoch("us")).collect().to_series()
    folder = registry.fetch(registry.champion("interest_evolution"))
    example = json.loads((folder / "example.json").read_text())["rows"]
    asked = {moment for row in example for moment in row["event_times"]}
    assert len(asked & set(times)) <= 1  # the newest moment alone, to which the made-up events count back


def test_a_training_set_of_before_cannot_be_had_again_and_says_so(planted: Settings):
    from pipeline.errors import NotFound
    from pipeline.serving.training_set import training_set
    from pipeline.stores.feature_store import apply_definitions

    apply_definitions(planted)  # a home that was copied still names the tables of the one that it was copied from
    rows = Lake.of(planted).scan(SEQUENCE_FEATURES).select("user_id", "event_timestamp").sort("user_id").collect()
    rows = rows.filter(pl.col("user_id").is_in([GONE, "u06"]))
    versions = {table.name: Lake.of(planted).version(table) for table in (INTEREST_WINDOWS, RECOMMENDATIONS)}
    erasure.forget_user(GONE, "asked", planted, NOW)
    with pytest.raises(NotFound, match="a user is erased"):
        training_set(rows, "support_profile_v1", planted, known_at=NOW, versions=versions)
    again = training_set(rows, "support_profile_v1", planted, known_at=NOW)
    assert GONE not in again.rows["user_id"].to_list() and again.manifest.erased > 1
    assert again.rows.height + again.manifest.erased == rows.height


def test_a_write_costs_a_hash_for_each_user_and_none_without_tombstones(settings: Settings, ledger, monkeypatch):
    tombstones = Tombstones.of(settings)
    users = pl.Series([f"u{number % 1000}" for number in range(100_000)])
    asked = []
    monkeypatch.setattr(Tombstones, "hash_of", lambda _, user: asked.append(user) or user)
    assert not tombstones.erased(users).any() and asked == []
    monkeypatch.undo()
    tombstones.add("u7", "asked", NOW)
    real = Tombstones.hash_of
    monkeypatch.setattr(Tombstones, "hash_of", lambda self, user: asked.append(user) or real(self, user))
    assert Tombstones.of(settings).erased(users).sum() == 100 and len(asked) == 1000


def test_what_another_process_erased_is_known_at_the_next_write(settings: Settings, ledger):
    one, other = Tombstones.of(settings), Tombstones.of(settings)
    assert not one.is_erased("anna")
    other.add("anna", "asked", NOW)
    assert one.is_erased("anna") and one.is_erased(" anna ")


def test_old_tables_lose_what_their_log_said_of_users(settings: Settings, ledger):
    """A table of before the ids were kept out of Delta's statistics."""
    from deltalake import write_deltalake

    rows = pl.DataFrame([{name: None for name in BEHAVIOR_EVENTS.names}] * 2, BEHAVIOR_EVENTS.schema)
    users, names = pl.Series("user_id", ["planted-user-1", "somebody-else"]), pl.Series("event_id", ["1", "2"])
    rows = rows.with_columns(users, names)
    lake, day = Lake.of(settings), Day.parse("2026-01-01")
    dated = rows.with_columns(pl.lit(day.key).alias("event_date"))
    write_deltalake(lake.path(BEHAVIOR_EVENTS), dated.to_arrow(), partition_by=["event_date"])
    logs = settings.place("lake/behavior_events/_delta_log")
    assert b"planted-user-1" in (logs / f"{0:020d}.json").read_bytes()
    assert erasure.forget_user("planted-user-1", "asked", settings, NOW).place("behavior_events").removed == 1
    assert not [f for f in logs.iterdir() if f.is_file() and b"planted-user-1" in f.read_bytes()]
    assert lake.read(BEHAVIOR_EVENTS, day)["user_id"].to_list() == ["somebody-else"]
    lake.replace(BEHAVIOR_EVENTS, day, rows)
    assert lake.read(BEHAVIOR_EVENTS, day)["user_id"].to_list() == ["somebody-else"]


@pytest.mark.parametrize(("user", "reason", "says"), [("", "asked", "1 to 256"), ("anna", " ", "needs a reason")])
def test_a_request_that_cannot_be_meant_is_refused(settings: Settings, user: str, reason: str, says: str):
    with pytest.raises(UserMistake, match=says):
        erasure.forget_user(user, reason, settings, NOW)


def test_the_command_erases_and_verifies(planted: Settings):
    from pipeline.cli.app import app

    def interest(*arguments: str):
        return CliRunner().invoke(app, ["--home", str(planted.home), *arguments], input="n\n")

    assert "Nothing was erased" in interest("forget", GONE, "--reason", "asked").output
    done = interest("forget", GONE, "--reason", "asked", "--yes", "--json")
    assert done.exit_code == 0, done.output
    receipt = json.loads(done.stdout)
    assert receipt["places"] and all(place["remaining"] == 0 for place in receipt["places"])
    again = interest("forget", "verify", receipt["receipt"])
    assert again.exit_code == 0 and "verified" in again.output and GONE not in again.output
    assert interest("forget", "verify").exit_code == 2
    assert interest("forget", "--user", "verify", "--reason", "a name like any other", "--yes").exit_code == 0
    lake = Lake.of(planted)
    for table in (table for table in TABLES if "user_id" in table.names):
        assert lake.scan(table).filter(user_id=GONE).collect().is_empty()
    assert [table.name for table in TABLES if names_users(table)][:2] == ["behavior_events", "quarantined_events"]


@pytest.mark.parametrize("nth", [1, 2])
def test_an_erasure_that_dies_after_a_commit_leaves_nothing_uncounted(settings, ledger, nth: int):
    """After the events' commit, and after the quarantine's, which the line of the events tells of, too."""
    from pipeline.steps.behavior_logs import publish_events
    from pipeline.stores.landing import Landing

    day = Day.parse("2026-01-05")
    types = {user: [*["view"] * 4, "no such type"] for user in (GONE, "stays")}
    rows = [
        {"event_id": f"{user}{n}", "user_id": user, "item_id": f"i{n}", "event_type": what,
         "event_time": day.start + timedelta(hours=n), "value": None, "ingested_at": day.end}
        for user, whats in types.items() for n, what in enumerate(whats)
    ]
    Landing.of(settings).put(day, "log", pl.DataFrame(rows, schema_overrides=BEHAVIOR_EVENTS.schema))
    publish_events(day, settings, day.end)
    arm(f"erase.after_commit:raise:{nth}")
    try:
        with pytest.raises(EngineFailure):
            erasure.forget_user(GONE, "asked", settings, NOW)
    finally:
        arm("")
    for _ in range(2):  # the second one changes nothing
        assert erasure.forget_user(GONE, "asked", settings, NOW + timedelta(hours=1)).is_verified
        counts = Ledger(settings.ledger_url).partition(BEHAVIOR_EVENTS.name, day.key).counts
        assert (counts["read"], counts["published"], counts["quarantined"], counts["erased"]) == (10, 4, 1, 5)
