"""What arrives after its day was published: taken in within the lookback, kept aside before it, lost never."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from pipeline.contracts import BEHAVIOR_EVENTS, LATE_EVENTS, QUARANTINED_EVENTS, SEQUENCE_FEATURES
from pipeline.errors import UnbalancedCounts
from pipeline.events.lateness import late_rows
from pipeline.partitions import Day
from pipeline.report.summary import claims
from pipeline.settings import Logs, Settings
from pipeline.steps.backfill import run_backfill
from pipeline.steps.backfill_plan import plan_backfill
from pipeline.steps.behavior_logs import publish_events, publish_history
from pipeline.steps.late_events import keep_late
from pipeline.steps.log_lookback import publish_day
from pipeline.steps.report import collect_facts, quality_of
from pipeline.steps.sequence_features import build_features, build_history
from pipeline.steps.status import read_status
from pipeline.stores.landing import Landing
from pipeline.stores.ledger import Ledger
from pipeline.stores.tables import Lake

TODAY = Day.parse("2026-03-10")
RECENT, OLD = TODAY.plus(-2), TODAY.plus(-5)
NOW = datetime(2026, 3, 11, tzinfo=UTC)
SUMMANDS = ("published", "quarantined", "duplicates", "erased", "late")


def row(day: Day, number: int, **changes) -> dict:
    return {
        "event_id": f"{day}-{number}",
        "user_id": f"u{number % 4}",
        "item_id": f"i{number % 6}",
        "event_type": "view",
        "event_time": (day.start + timedelta(minutes=number)).isoformat(),
        "value": None,
        "ingested_at": day.end.isoformat(),
        **changes,
    }


def deliver(settings: Settings, day: Day, rows: list[dict], name: str = "a") -> None:
    Landing.of(settings).put(day, name, pl.DataFrame(rows, dict.fromkeys(row(day, 0), pl.String())))


@pytest.fixture(scope="session")
def published_home(tmp_path_factory) -> Path:
    """The week before today, published and built; today has landed. To be copied, not used."""
    settings = Settings.load(home=tmp_path_factory.mktemp("published"))
    Ledger(settings.ledger_url).migrate()
    for number in range(7):
        deliver(settings, TODAY.plus(number - 6), [row(TODAY.plus(number - 6), n) for n in range(12)])
    restated = (TODAY.plus(-6), TODAY.plus(-1), settings, TODAY.start)
    assert not publish_history(*restated).failed
    build_history(*restated)
    return settings.home


@pytest.fixture
def published(published_home: Path, tmp_path: Path) -> Settings:
    shutil.copytree(published_home, tmp_path / "home")
    return Settings.load(home=tmp_path / "home", logs=Logs(lookback_days=3))


@pytest.fixture
def lake(published: Settings) -> Lake:
    return Lake.of(published)


@pytest.fixture
def ledger(published: Settings) -> Ledger:
    return Ledger(published.ledger_url)


def state_of(lake, ledger) -> list:
    tables = (BEHAVIOR_EVENTS, QUARANTINED_EVENTS, LATE_EVENTS, SEQUENCE_FEATURES)
    return [(lake.version(table), ledger.partitions(table.name)) for table in tables]


def balance(ledger, day: Day) -> dict[str, int]:
    """What became of the rows of a day; they are all there."""
    line = ledger.partition(BEHAVIOR_EVENTS.name, day.key)
    assert line.counts["read"] == sum(line.counts.get(name, 0) for name in SUMMANDS)
    assert quality_of(line).balances
    return {name: line.counts[name] for name in SUMMANDS if line.counts.get(name)}


def test_a_day_to_which_nothing_was_added_stands_alone(published, lake, ledger):
    done = publish_day(TODAY, published, NOW)
    assert (done.partitions, done.restated, done.late, done.failed) == ((TODAY.key,), (), {}, {})
    build_features(TODAY, published, NOW)
    before = state_of(lake, ledger)
    again = publish_day(TODAY, published, NOW + timedelta(days=1))
    assert again.partitions == (TODAY.key,) and not again.published.changed
    assert state_of(lake, ledger) == before


def test_within_the_lookback_a_late_file_restates_its_day_and_what_follows_from_it(published, lake, ledger):
    deliver(published, RECENT, [row(RECENT, 90), row(RECENT, 3), row(RECENT, 91, user_id=None)], "late")
    done = publish_day(TODAY, published, NOW)
    assert done.partitions == (RECENT.key, TODAY.key)
    assert [day.day for day in done.restated] == [RECENT.key]
    assert balance(ledger, RECENT) == {"published": 13, "quarantined": 1, "duplicates": 1}
    assert lake.version(LATE_EVENTS) is None
    for key in done.partitions:
        build_features(Day.parse(key), published, NOW)
    before = state_of(lake, ledger)
    assert publish_day(TODAY, published, NOW + timedelta(days=1)).partitions == (TODAY.key,)
    assert state_of(lake, ledger) == before


def test_a_corrected_file_replaces_what_it_said_before(published, lake):
    deliver(published, RECENT, [row(RECENT, n, item_id="other") for n in range(1, 12)])
    assert publish_day(TODAY, published, NOW).partitions == (RECENT.key, TODAY.key)
    standing = lake.read(BEHAVIOR_EVENTS, RECENT)
    assert (standing.height, standing["item_id"].unique().to_list()) == (11, ["other"])


def test_a_restated_day_is_told_until_its_features_are_made_again(published):
    deliver(published, RECENT, [row(RECENT, 90)], "late")
    publish_events(RECENT, published, NOW)  # and then the process died
    assert publish_day(TODAY, published, NOW).partitions == (RECENT.key, TODAY.key)
    assert publish_day(TODAY, published, NOW).partitions == (RECENT.key, TODAY.key)
    build_features(RECENT, published, NOW)
    assert publish_day(TODAY, published, NOW).partitions == (TODAY.key,)


def test_a_day_that_failed_is_tried_again_when_something_else_is_delivered_for_it(published, ledger):
    gap = TODAY.plus(-1)
    deliver(published, gap, [])
    assert gap.key in publish_day(TODAY, published, NOW).failed
    assert publish_day(TODAY, published, NOW).failed == {}, "the same files are not judged every day"
    deliver(published, gap, [row(gap, n) for n in range(5)])
    assert publish_day(TODAY, published, NOW).partitions == (gap.key, TODAY.key)
    assert balance(ledger, gap) == {"published": 5}


@pytest.mark.fault("events too late for the lookback")
def test_before_the_lookback_late_rows_are_kept_aside_and_the_day_stays_as_it_is(published, lake, ledger):
    day = lake.read(BEHAVIOR_EVENTS, OLD)
    late = [
        row(OLD, 90),
        row(OLD, 91, event_type="tasting"),
        row(OLD, 4),
        row(OLD, 5, item_id="other", ingested_at=NOW.isoformat()),
    ]
    deliver(published, OLD, late, "late")
    done = publish_day(TODAY, published, NOW)
    assert (done.partitions, done.late) == ((TODAY.key,), {OLD.key: 3})
    assert lake.read(BEHAVIOR_EVENTS, OLD).equals(day)
    kept = lake.read(LATE_EVENTS, OLD)
    assert kept.select("source_row", "reason").rows() == [
        (0, "arrived_after_lookback"),
        (1, "event_type_not_allowed"),
        (3, "corrected_after_lookback"),
    ]
    assert {json.loads(raw)["event_id"] for raw in kept["raw"]} == {f"{OLD}-{n}" for n in (90, 91, 5)}
    assert kept["created"].unique().to_list() == [NOW]
    assert balance(ledger, OLD) == {"published": 12, "duplicates": 1, "late": 3}
    assert read_status(published, NOW).late == {OLD.key: 3}
    said = [claim.text for claim in claims(collect_facts(published, NOW))]
    assert f"3 rows came too late and wait in late_events: {OLD} (3)." in said
    assert "Every row is accounted for: rows in = published + quarantined + duplicates + late." in said
    build_features(TODAY, published, NOW)
    before = state_of(lake, ledger)
    assert publish_day(TODAY, published, NOW + timedelta(days=1)).late == {}
    assert state_of(lake, ledger) == before


def test_a_second_late_file_leaves_the_first_ones_rows_as_they_were_found(published, lake, ledger):
    deliver(published, OLD, [row(OLD, 90)], "late")
    publish_day(TODAY, published, NOW)
    deliver(published, OLD, [row(OLD, 91)], "later")
    assert publish_day(TODAY, published, NOW + timedelta(days=1)).late == {OLD.key: 2}
    assert lake.read(LATE_EVENTS, OLD)["created"].to_list() == [NOW, NOW + timedelta(days=1)]
    assert balance(ledger, OLD) == {"published": 12, "late": 2}


def test_a_file_that_says_again_what_is_known_is_no_late_event(published, lake, ledger):
    deliver(published, OLD, [row(OLD, n, ingested_at=NOW.isoformat()) for n in range(12)], "again")
    assert publish_day(TODAY, published, NOW).late == {OLD.key: 0}
    assert lake.version(LATE_EVENTS) is None
    assert balance(ledger, OLD) == {"published": 12, "duplicates": 12}


def test_who_asks_for_the_day_takes_its_late_rows_in(published, lake, ledger):
    deliver(published, OLD, [row(OLD, 90), row(OLD, 91, user_id=None)], "late")
    publish_day(TODAY, published, NOW)
    publish_events(OLD, published, NOW)
    assert lake.read(LATE_EVENTS, OLD).is_empty()
    assert ledger.partition(LATE_EVENTS.name, OLD.key).state == "empty"
    assert balance(ledger, OLD) == {"published": 13, "quarantined": 1}
    assert publish_day(TODAY, published, NOW).late == {}


def test_an_earlier_day_that_cannot_be_published_again_stops_nothing(published, lake):
    day = lake.read(BEHAVIOR_EVENTS, RECENT)
    for place in (RECENT, OLD):
        (published.landing_path / "behavior_events" / place.key / "late.parquet").write_bytes(b"PAR1 and no more")
    done = publish_day(TODAY, published, NOW)
    assert set(done.failed) == {RECENT.key, OLD.key}
    assert done.partitions == (TODAY.key,) and done.published.published == 12
    assert lake.read(BEHAVIOR_EVENTS, RECENT).equals(day)


def test_a_run_that_was_asked_for_looks_at_its_own_day_only(published, lake):
    deliver(published, RECENT, [row(RECENT, 90)], "late")
    deliver(published, OLD, [row(OLD, 90)], "late")
    done = publish_day(TODAY, published, NOW, looks_back=False)
    assert (done.partitions, done.restated, done.late) == ((TODAY.key,), (), {})
    assert lake.version(LATE_EVENTS) is None


def test_an_erased_user_leaves_the_late_events_and_no_file_brings_them_back(published, lake, ledger):
    from pipeline.steps.erasure import forget_user
    from pipeline.stores.feature_store import apply_definitions

    apply_definitions(published)
    late = [row(OLD, 90, user_id="gone"), row(OLD, 91, user_id="u1"), row(OLD, 92, user_id="gone", event_type="sip")]
    deliver(published, OLD, late, "late")
    publish_day(TODAY, published, NOW)
    assert balance(ledger, OLD) == {"published": 12, "late": 3}
    receipt = forget_user("gone", "asked for it", published, NOW)
    assert [(p.removed, p.remaining) for p in receipt.places if p.name == LATE_EVENTS.name] == [(2, 0)]
    assert "gone" not in "".join(lake.read(LATE_EVENTS, OLD)["raw"])
    assert balance(ledger, OLD) == {"published": 12, "erased": 2, "late": 1}
    deliver(published, OLD, [row(OLD, 93, user_id="gone"), row(OLD, 94, user_id="u2")], "later")
    publish_day(TODAY, published, NOW)
    assert {json.loads(raw)["user_id"] for raw in lake.read(LATE_EVENTS, OLD)["raw"]} == {"u1", "u2"}
    assert balance(ledger, OLD)["late"] == 2


def test_rows_that_stand_are_counted_also_when_their_file_is_gone(published, ledger):
    deliver(published, OLD, [row(OLD, n) for n in range(3, 12)])
    deliver(published, OLD, [row(OLD, 90), row(OLD, 91, user_id=None), row(OLD, 90)], "late")
    assert publish_day(TODAY, published, NOW).late == {OLD.key: 2}
    assert balance(ledger, OLD) == {"published": 12, "duplicates": 1, "late": 2}
    assert ledger.partition(BEHAVIOR_EVENTS.name, OLD.key).counts["read"] == 9 + 3 + 3


@pytest.mark.parametrize("lost", ["rows", "duplicates"])
def test_a_late_row_that_would_be_nowhere_is_told_and_nothing_is_written(published, lake, ledger, monkeypatch, lost):
    deliver(published, OLD, [row(OLD, 90), row(OLD, 4)], "late")
    before = state_of(lake, ledger)

    def losing(*given):
        late = late_rows(*given)
        return replace(late, rows=late.rows.head(0)) if lost == "rows" else replace(late, duplicates=0)

    monkeypatch.setattr("pipeline.steps.late_events.late_rows", losing)
    with pytest.raises(UnbalancedCounts, match=r"14 rows in, but 12 published.*Nothing was written"):
        keep_late(OLD, published, NOW)
    assert state_of(lake, ledger) == before


def test_a_day_is_behind_when_the_files_of_the_day_before_bring_an_event_of_it(published, ledger):
    tolerant = published.model_copy(update={"logs": Logs(lookback_days=3, day_end_tolerance_minutes=10)})
    assert not publish_history(TODAY.plus(-6), TODAY.plus(-1), tolerant, NOW).failed
    build_history(TODAY.plus(-6), TODAY.plus(-1), tolerant, NOW)
    assert publish_day(TODAY, tolerant, NOW).partitions == (TODAY.key,)
    spilled = row(RECENT, 90, event_time=(RECENT.end + timedelta(minutes=2)).isoformat())
    deliver(tolerant, RECENT, [spilled], "late")
    after = RECENT.plus(1)
    assert publish_day(TODAY, tolerant, NOW).partitions == (RECENT.key, after.key, TODAY.key)
    build_features(RECENT, tolerant, NOW)
    assert [p.day for p in plan_backfill(RECENT, after, tolerant).partitions if p.table == SEQUENCE_FEATURES.name] == [
        after.key
    ]
    build_features(after, tolerant, NOW)
    assert ledger.partition(SEQUENCE_FEATURES.name, after.key).counts["events"] == 13
    assert publish_day(TODAY, tolerant, NOW).partitions == (TODAY.key,)
    assert plan_backfill(RECENT, after, tolerant).partitions == ()


def test_a_plan_writes_the_day_after_one_whose_files_may_hold_events_of_it(published):
    tolerant = published.model_copy(update={"logs": Logs(day_end_tolerance_minutes=10)})
    assert not publish_history(TODAY.plus(-6), TODAY.plus(-1), tolerant, NOW).failed
    build_history(TODAY.plus(-6), TODAY.plus(-1), tolerant, NOW)
    deliver(tolerant, RECENT, [row(RECENT, 90)], "late")
    made = plan_backfill(RECENT, RECENT.plus(1), tolerant)
    why = {(p.table, p.day): p.reasons for p in made.partitions}
    assert why[SEQUENCE_FEATURES.name, RECENT.plus(1).key] == (
        f"upstream is written: {BEHAVIOR_EVENTS.name} of the day before",
    )
    run_backfill(made, tolerant, NOW, accept=True)
    assert plan_backfill(RECENT, RECENT.plus(1), tolerant).partitions == ()
