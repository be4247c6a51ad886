"""A backfill cannot hurt: it touches nothing before it is run, nothing that is served, and nothing twice."""

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from pipeline.contracts import (
    BEHAVIOR_EVENTS,
    INTEREST_WINDOWS,
    LONG_TERM_INTEREST,
    RECOMMENDATIONS,
    SEQUENCE_FEATURES,
    TABLES,
)
from pipeline.errors import BadPartition, BeyondTolerance
from pipeline.partitions import Day
from pipeline.settings import Backfill, Features, Logs, Settings
from pipeline.steps.backfill import here, run_backfill
from pipeline.steps.backfill_plan import plan_backfill
from pipeline.stores.backfills import Backfills
from pipeline.stores.landing import Landing
from pipeline.stores.ledger import Ledger
from pipeline.stores.tables import Lake

FIRST, LAST = Day.parse("2026-03-02"), Day.parse("2026-03-06")
NOW = datetime(2026, 4, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 4, 2, 12, tzinfo=UTC)
USERS = [f"u{number}" for number in range(6)]


def land(settings: Settings, day: Day, name: str, users: list[str], events: int = 3) -> None:
    rows = [
        {
            "event_id": f"{day}-{name}-{user}-{number}",
            "user_id": user,
            "item_id": f"i{number + len(user)}",
            "event_type": "view",
            "event_time": (day.start + timedelta(hours=number, minutes=len(name))).isoformat(),
            "value": None,
            "ingested_at": day.end.isoformat(),
        }
        for user in users
        for number in range(events)
    ]
    place = settings.landing_path / BEHAVIOR_EVENTS.name / day.key / f"{name}.parquet"
    place.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, dict.fromkeys(rows[0], pl.String)).write_parquet(place)


@pytest.fixture(scope="module")
def brought_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with five days of six users, published, built and served. To be copied, not used."""
    from pipeline.steps.history import restate_history
    from pipeline.stores.feature_store import apply_definitions

    settings = Settings.load(home=tmp_path_factory.mktemp("days") / "home")
    for number in range(5):
        land(settings, FIRST.plus(number), "a", USERS)
    Ledger(settings.ledger_url).migrate()
    apply_definitions(settings)
    restate_history(FIRST, LAST, settings, NOW)
    return settings.home


@pytest.fixture
def days(brought_in: Path, tmp_path: Path) -> Settings:
    shutil.copytree(brought_in, tmp_path / "home")
    return Settings.load(home=tmp_path / "home")


def redefined(settings: Settings, **tolerance: float) -> Settings:
    """Another definition of the sequences, and by default a tolerance that lets it pass."""
    limits = {"max_changed_share": 9.0, "max_edit_distance": 1.0} | tolerance
    return settings.model_copy(update={"features": Features(sequence_length=4), "backfill": Backfill(**limits)})


def files_of(home: Path) -> dict[str, tuple[int, int]]:
    found = (place for place in home.rglob("*") if place.is_file() and not place.name.endswith(("-shm", "-wal")))
    return {str(place): (place.stat().st_size, place.stat().st_mtime_ns) for place in found}


def versions(settings: Settings) -> dict[str, int | None]:
    return {table.name: Lake.of(settings).version(table) for table in TABLES}


def served(settings: Settings) -> dict[str, pl.DataFrame]:
    from pipeline.stores.served_rows import served_rows

    return {table.name: served_rows(settings, table, USERS) for table in (SEQUENCE_FEATURES, INTEREST_WINDOWS)}


def planned(settings: Settings, **options) -> dict[tuple[str, str], tuple[str, ...]]:
    made = plan_backfill(FIRST, LAST, settings, **options)
    return {(partition.table, partition.day): partition.reasons for partition in made.partitions}


def test_what_stands_and_is_true_is_not_planned_and_a_plan_touches_nothing(days: Settings):
    before = files_of(days.home)
    made = plan_backfill(FIRST, LAST.plus(2), days)
    assert (made.partitions, made.models_retrained, made.online_keys_backward) == ((), (), 0)
    assert made.cannot_be_made == (LAST.plus(1).key, LAST.plus(2).key)
    assert planned(redefined(days)) and planned(days, reason="asked")
    assert files_of(days.home) == before


def test_a_home_without_anything_can_be_planned_for_and_stays_without(tmp_path: Path):
    settings = Settings.load(home=tmp_path / "home")
    assert plan_backfill(FIRST, LAST, settings).partitions == ()
    assert files_of(tmp_path) == {}
    with pytest.raises(BadPartition, match="does not write items"):
        plan_backfill(FIRST, LAST, settings, ["items"])


def test_a_changed_definition_makes_its_table_stale_and_no_other(days: Settings):
    assert planned(redefined(days)) == {
        (SEQUENCE_FEATURES.name, FIRST.plus(number).key): ("definition changed",) for number in range(5)
    }


def test_late_files_make_their_day_and_what_follows_from_it_stale(days: Settings):
    land(days, FIRST.plus(2), "late", ["u1"], events=1)
    found = planned(days)
    key = FIRST.plus(2).key
    assert set(found) == {(table.name, key) for table in (BEHAVIOR_EVENTS, SEQUENCE_FEATURES, INTEREST_WINDOWS)}
    assert found[BEHAVIOR_EVENTS.name, key][0].startswith("late events")
    assert found[SEQUENCE_FEATURES.name, key] == (f"upstream is written: {BEHAVIOR_EVENTS.name}",)
    run_backfill(plan_backfill(FIRST, LAST, days), days, LATER, accept=True)
    assert Lake.of(days).read(BEHAVIOR_EVENTS, FIRST.plus(2)).height == 19
    assert planned(days) == {}


def test_an_upstream_that_was_published_anew_makes_the_features_stale(days: Settings):
    from pipeline.steps.behavior_logs import publish_events

    land(days, FIRST.plus(2), "late", ["u1"], events=1)
    publish_events(FIRST.plus(2), days, LATER)
    why = (f"upstream version changed: {BEHAVIOR_EVENTS.name}",)
    assert set(planned(days).values()) == {why} and len(planned(days)) == 2


def test_an_erasure_makes_nothing_stale(days: Settings):
    from pipeline.steps.erasure import forget_user

    alone = FIRST.plus(4)
    land(days, alone, "own", ["u3"])
    run_backfill(plan_backfill(FIRST, LAST, days), days, LATER, accept=True)
    forget_user("u3", "a request", days, LATER)
    assert [file.name for file in Landing.of(days).files(alone)] == ["a.parquet"]
    assert planned(days) == {}


def test_a_backfill_changes_the_tables_and_nothing_that_is_served(days: Settings):
    settings, before, stood = redefined(days), served(days), versions(days)
    done = run_backfill(plan_backfill(FIRST, LAST, settings), settings, LATER)
    assert done.state == "done" and done.days == tuple(FIRST.plus(number).key for number in range(5))
    assert done.canary[0].day == LAST.key
    assert versions(settings)[SEQUENCE_FEATURES.name] > stood[SEQUENCE_FEATURES.name]
    assert all(served(settings)[name].equals(rows) for name, rows in before.items())
    assert any("6 mismatched" in view for view in done.parity), "the report says that what is served is behind"

    from pipeline.steps.online_rebuild import rebuild_online

    rebuild_online(Day.of(LATER), settings, [SEQUENCE_FEATURES.name])
    after = served(settings)
    assert after[SEQUENCE_FEATURES.name]["num_events"].to_list() == [4] * 6
    assert after[INTEREST_WINDOWS.name].equals(before[INTEREST_WINDOWS.name])


def test_a_second_run_finds_nothing_to_do(days: Settings):
    settings = redefined(days)
    run_backfill(plan_backfill(FIRST, LAST, settings), settings, LATER)
    before = versions(settings)
    again = run_backfill(plan_backfill(FIRST, LAST, settings), settings, LATER)
    assert (again.state, versions(settings)) == ("nothing to do", before)


def test_what_somebody_asks_for_is_done_once(days: Settings):
    asked = {"tables": [INTEREST_WINDOWS.name], "reason": "prices were wrong"}
    assert len(planned(days, **asked)) == 5
    before = versions(days)
    run_backfill(plan_backfill(FIRST, LAST, days, **asked), days, LATER)
    assert versions(days) == before, "what says the same is not written"
    assert planned(days, **asked) == {}
    assert len(planned(days, **asked, again=True)) == 5


def test_of_the_features_only_the_table_that_is_asked_for_is_written(days: Settings):
    settings = redefined(days).model_copy(update={"logs": Logs(event_weights={"view": 2.0})})
    before = versions(settings)
    only = plan_backfill(FIRST, LAST, settings, [INTEREST_WINDOWS.name])
    assert {table for table, _ in planned(settings)} >= {SEQUENCE_FEATURES.name, INTEREST_WINDOWS.name}
    run_backfill(only, settings, LATER, accept=True)
    after = versions(settings)
    assert after[SEQUENCE_FEATURES.name] == before[SEQUENCE_FEATURES.name]
    assert after[INTEREST_WINDOWS.name] > before[INTEREST_WINDOWS.name]
    assert {table for table, _ in planned(settings, tables=[SEQUENCE_FEATURES.name])} == {SEQUENCE_FEATURES.name}
    assert planned(settings, tables=[INTEREST_WINDOWS.name]) == {}


def test_too_great_a_difference_stops_it_before_anything_is_written(days: Settings):
    settings = redefined(days, max_edit_distance=0.1)
    before = versions(settings)
    made = plan_backfill(FIRST, LAST, settings)
    with pytest.raises(BeyondTolerance, match=r"mean edit distance .* Nothing was written.*--accept"):
        run_backfill(made, settings, LATER)
    assert versions(settings) == before
    assert Backfills(Ledger(settings.ledger_url)).all() == []
    assert run_backfill(made, settings, LATER, accept=True).canary[0].mean_edit_distance > 0.1


def test_the_first_partition_is_tried_as_it_will_be_written(days: Settings):
    land(days, FIRST.plus(2), "late", ["u1", "u2"], events=1)
    done = run_backfill(plan_backfill(FIRST, LAST, days), days, LATER, accept=True)
    told = {difference.table: difference for difference in done.canary}
    assert (told[BEHAVIOR_EVENTS.name].added, told[BEHAVIOR_EVENTS.name].removed) == (2, 0)
    assert told[SEQUENCE_FEATURES.name].changed == told[INTEREST_WINDOWS.name].changed == 2
    assert told[SEQUENCE_FEATURES.name].columns["num_events"] == 2


def test_after_a_crash_it_goes_on_at_the_partition_where_it_stopped(days: Settings):
    settings = redefined(days)
    made, written = plan_backfill(FIRST, LAST, settings), []

    def dies_at_the_third(keys, record, plan, done) -> None:
        for key in keys:
            if len(written) == 2:
                raise RuntimeError("power")
            here(settings, LATER)([key], record, plan, done)
            written.append(key)

    with pytest.raises(RuntimeError, match="power"):
        run_backfill(made, settings, LATER, dies_at_the_third)
    assert written == [made.days[-1], made.days[0]], "the first partition is the one of which most stands"
    left = plan_backfill(FIRST, LAST, settings)
    assert left.days == made.days[1:4]

    taken = []

    def told(keys, record, plan, done) -> None:
        taken.extend(keys)
        here(settings, LATER)(keys, record, plan, done)

    done = run_backfill(left, settings, LATER, told)
    assert done.resumed and tuple(taken) == done.days == made.days[1:4]
    [record] = Backfills(Ledger(settings.ledger_url)).all()
    assert (record.state, record.done) == ("done", [made.days[-1], *made.days[:4]])
    assert planned(settings) == {}


def test_time_is_expected_from_what_earlier_backfills_took(days: Settings):
    settings = redefined(days)
    assert plan_backfill(FIRST, LAST, settings).expected_seconds is None
    run_backfill(plan_backfill(FIRST, LAST, settings), settings, LATER)
    made = plan_backfill(FIRST, LAST, settings, [SEQUENCE_FEATURES.name], "once more")
    assert made.expected_seconds > 0 and made.expected_rows == 30


def test_a_copied_landing_folder_is_no_late_delivery(days: Settings):
    for file in Landing.of(days).files(FIRST):
        moment = file.stat().st_mtime_ns
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content)
        os.utime(file, ns=(moment, moment))
    assert planned(days) == {}


def test_vectors_and_lists_of_a_backfill_wait_until_they_are_published(trained: Settings, planted_start: datetime):
    from pipeline.steps.online_rebuild import rebuild_online
    from pipeline.stores.served_rows import served_keys

    first = Day.of(planted_start + timedelta(weeks=7))
    models = [LONG_TERM_INTEREST.name, RECOMMENDATIONS.name]
    made = plan_backfill(first, first.plus(1), trained, models)
    assert {partition.reasons for partition in made.partitions} == {("missing",)} and len(made.partitions) == 4
    run_backfill(made, trained, LATER)
    assert Lake.of(trained).days(RECOMMENDATIONS) == [first, first.plus(1)]
    assert [served_keys(trained, view) for view in models] == [[], []]
    assert plan_backfill(first, first.plus(1), trained, models).partitions == ()
    rebuild_online(Day.of(LATER), trained, models)
    assert all(len(served_keys(trained, view)) == 80 for view in models)
