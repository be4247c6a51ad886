"""Law 10: nothing brings an erased user back: no file that comes again, no backfill, no replay, no rebuild."""

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy

from pipeline.contracts import BEHAVIOR_EVENTS, LONG_TERM_INTEREST, QUARANTINED_EVENTS, RECOMMENDATIONS, TABLES
from pipeline.errors import BadSetting, NotFound
from pipeline.events.mapping import Mapping
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.stores.ledger import Ledger
from pipeline.stores.tables import Lake
from pipeline.stores.tombstones import Tombstones, names_users

GONE, STAYS = "planted-user-7391", "other-user-0042"
FIRST = Day.parse("2026-03-01")
NOW = datetime(2026, 4, 1, 12, tzinfo=UTC)
MAPPING = Mapping.model_validate(
    {
        "events": {
            "columns": {"user_id": "who", "item_id": "what", "event_time": "when"},
            "event_type": {"column": "kind"},
            "time": {},
        }
    }
)


def log_of(folder: Path) -> Path:
    """Six days of two users; the planted one has a repetition and a row of a kind that is refused, in front."""
    lines = ["who,what,kind,when"]
    for number in range(6):
        day = FIRST.plus(number).key
        lines += [f"{GONE},i{number},unheard,{day}T09:00:00Z"] if number < 2 else []
        lines += [f"{GONE},i{number},view,{day}T10:00:00Z"] * 2
        lines += [f"{STAYS},i{number},unheard,{day}T11:00:00Z"]
        lines += [f"{STAYS},i{number},view,{day}T{hour}:00:00Z" for hour in range(12, 19)]
    file = folder / "log.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def deliver(settings: Settings, log: Path, known_at: datetime):
    """The whole way of a log, as often as wanted: loaded, published, built, pushed."""
    from pipeline.steps.behavior_logs import landing_days, load_logs, publish_history
    from pipeline.steps.sequence_features import build_history, push_features

    load_logs(log, None, MAPPING, settings, known_at)
    days = landing_days(settings)
    published = publish_history(days[0], days[-1], settings, known_at)
    build_history(days[0], days[-1], settings, known_at)
    push_features(days[0], settings, days[-1])
    return published


def vectors_and_lists(settings: Settings, users: list[str], known_at: datetime) -> None:
    """What the models would write of a day, twice: there is an old version."""
    from pipeline.stores.feature_store import push_online

    day, lake = FIRST.plus(5), Lake.of(settings)
    facts = {"space_id": "s", "model_version": 1, "model_cutoff": FIRST.start, "event_timestamp": day.as_of}
    for mark in (1.0, 2.0):
        rows = [{"user_id": user, "vector": [mark, 1.0], "created": known_at, **facts} for user in users]
        vectors = pl.DataFrame(rows, LONG_TERM_INTEREST.schema)
        rows = [{"user_id": u, "item_ids": ["i1"], "scores": [mark], "created": known_at, **facts} for u in users]
        lists = pl.DataFrame(rows, RECOMMENDATIONS.schema)
        for table, frame in ((LONG_TERM_INTEREST, vectors), (RECOMMENDATIONS, lists)):
            lake.replace(table, day, frame)
            push_online(settings, table.name, frame)


def places_of(home: Path, name: str) -> list[str]:
    """Every file below `home` that holds a name: in its bytes, or, where these are packed, in its rows."""
    found = []
    for file in (file for file in home.rglob("*") if file.is_file()):
        rows = pl.read_parquet(file, hive_partitioning=False) if file.suffix == ".parquet" else pl.DataFrame()
        if name.encode() in file.read_bytes() or name in rows.write_json():
            found.append(str(file.relative_to(home)))
    return sorted(found)


def redis_holds(settings: Settings, name: str) -> bool:
    if settings.online.type != "redis":
        return False
    import redis

    host, port = settings.online.url.split(":")
    client = redis.Redis(host, int(port))
    return any(name.encode() in key + repr(client.dump(key)).encode() for key in client.scan_iter("*"))


@pytest.fixture(scope="module")
def erased(online, tmp_path_factory):
    """A home in which the planted user was everywhere, the log it came from, and the receipt."""
    from pipeline.steps.catalog import build_catalog
    from pipeline.steps.erasure import forget_user
    from pipeline.steps.report import write_report

    log = log_of(tmp_path_factory.mktemp("log"))
    Ledger(online.ledger_url).migrate()
    deliver(online, log, NOW)
    vectors_and_lists(online, [GONE, STAYS], NOW)
    write_report(online, NOW)
    build_catalog(online, NOW)
    home = online.place("")
    assert [place for place in places_of(home, GONE) if "_delta_log" in place] == []
    (home / "reports/of_a_friend.html").write_text(f"<p>user {GONE} likes tea</p>")
    (home / "airflow/logs").mkdir(parents=True)
    (home / "airflow/logs/task.log").write_text(f"looked up {GONE}\nall is well\n")
    (home / "served").mkdir()
    (home / "served/lookups.jsonl").write_text(f'{{"user_id": "{GONE}"}}\n{{"user_id": "{STAYS}"}}\n')
    dead = home / "lake/behavior_events/event_date=2026-03-01/part-dead.parquet"
    shutil.copy(next(dead.parent.glob("*.parquet")), dead)
    os.utime(dead, (0, 0))
    assert places_of(home, GONE)
    receipt = forget_user(GONE, f"{GONE} wrote to us", online, NOW + timedelta(hours=2))
    return online, log, receipt


def test_the_user_is_nowhere_and_the_others_are_as_before(erased):
    settings, _, receipt = erased
    assert receipt.is_verified, receipt
    assert places_of(settings.place(""), GONE) == [] and not redis_holds(settings, GONE)
    removed = {place.name: place.removed for place in receipt.places}
    assert removed["landing files"] == 14 and removed["behavior_events"] == 6 and removed["quarantined_events"] == 2
    assert removed["sequence_features"] == removed["interest_windows"] == 6 and removed["online store"] == 1
    assert removed["long_term_interest"] == removed["recommendations"] == 2  # both versions of one row
    assert removed["reports and data docs"] >= 1 and removed["logs and artifacts"] == 2
    assert removed["feature catalogue"] >= 7 and not list(settings.place("catalog").iterdir())
    assert (settings.place("airflow/logs/task.log")).read_text() == "all is well\n"
    assert receipt.reason == "[the user] wrote to us"
    lake = Lake.of(settings)
    assert lake.scan(BEHAVIOR_EVENTS).collect()["user_id"].unique().to_list() == [STAYS]
    assert lake.scan(QUARANTINED_EVENTS).collect().height == 6


def test_every_row_that_was_delivered_is_still_accounted_for(erased):
    from pipeline.steps.ledger_rebuild import disagreements

    settings, _, _ = erased
    ledger = Ledger(settings.ledger_url)
    for line in ledger.partitions(BEHAVIOR_EVENTS.name):
        counts = line.counts
        parts = ("published", "quarantined", "duplicates", "erased")
        assert counts["read"] == sum(counts[name] for name in parts), line
        assert counts["erased"] >= 1
    by_steps = ("behavior_events", "quarantined_events", "sequence_features", "interest_windows")
    assert [found for found in disagreements(Lake.of(settings), ledger) if found.table in by_steps] == []


def test_a_look_up_says_not_found_and_no_more(erased):
    from pipeline.serving.lookup import look_up

    settings, _, _ = erased
    assert look_up(settings, GONE, "support_profile_v1", NOW).status == "not_found"
    assert look_up(settings, STAYS, "support_profile_v1", NOW).status in ("found", "stale")


@pytest.mark.fault("erase, then backfill, replay and late files")
def test_nothing_brings_the_user_back(erased):
    from pipeline.serving.lookup import look_up
    from pipeline.steps.behavior_logs import replay_quarantine
    from pipeline.steps.erasure import verify_receipt
    from pipeline.steps.history import restate_history
    from pipeline.steps.ledger_rebuild import rebuild_ledger
    from pipeline.steps.online_rebuild import rebuild_online

    settings, log, receipt = erased
    later = NOW + timedelta(days=1)
    lake = Lake.of(settings)
    tables = [table for table in TABLES if names_users(table) and lake.exists(table)]
    versions = {table.name: lake.version(table) for table in tables}
    deliver(settings, log, later)  # the log comes again
    assert lake.version(QUARANTINED_EVENTS) == versions["quarantined_events"]
    raw = settings.landing_path / "behavior_events" / FIRST.key / "late.csv"  # and a file that nobody loaded
    raw.write_text(
        "user_id,item_id,event_type,event_time,value,ingested_at\n"
        f"{GONE},i9,view,{FIRST.key}T20:00:00Z,,{FIRST.key}T21:00:00Z\n"
        f"{STAYS},i9,unheard,{FIRST.key}T20:00:00Z,,{FIRST.key}T21:00:00Z\n"
    )
    again = restate_history(FIRST, FIRST.plus(5), settings, later)  # a backfill
    assert again.events.total("erased") > 0
    replay_quarantine(FIRST, settings, later)
    vectors_and_lists(settings, [GONE, STAYS], later)  # a writer that knows nothing of it
    settings.place("ledger.db").unlink()
    for ending in ("-wal", "-shm"):
        settings.place(f"ledger.db{ending}").unlink(missing_ok=True)
    rebuild_ledger(settings)
    assert [t.keyed_hash for t in Ledger(settings.ledger_url).tombstones()] == [receipt.keyed_hash]
    rebuild_online(Day.of(later), settings)
    assert places_of(settings.place(""), GONE) == [] and not redis_holds(settings, GONE)
    assert look_up(settings, GONE, "support_profile_v1", later).status == "not_found"
    assert verify_receipt(receipt.receipt, settings, later).is_verified
    unchanged = ("behavior_events", "sequence_features", "interest_windows")
    assert {name: lake.version(t) for t in tables if (name := t.name) in unchanged} == {
        name: version for name, version in versions.items() if name in unchanged
    }


def test_reading_the_cleaned_files_again_changes_nothing(erased):
    from pipeline.steps.history import restate_history

    settings, _, _ = erased
    restate_history(FIRST, FIRST.plus(5), settings, NOW + timedelta(days=2))
    version = Lake.of(settings).version(QUARANTINED_EVENTS)
    again = restate_history(FIRST, FIRST.plus(5), settings, NOW + timedelta(days=3))
    assert not again.events.changed and Lake.of(settings).version(QUARANTINED_EVENTS) == version
    assert all(day.erased >= 1 for day in again.events.days)


def test_a_receipt_finds_a_user_who_is_there_again(erased):
    """Somebody restores a backup past all stores: the verification sees it, without knowing the id."""
    from pipeline.steps.erasure import verify_receipt

    settings, _, receipt = erased
    place, day = settings.landing_path / "behavior_events" / FIRST.key / "backup.jsonl", FIRST.key
    place.write_text(f'{{"user_id": "{GONE}", "item_id": "i", "event_type": "view", "event_time": "{day}T01:00:00Z", '
                     f'"value": null, "ingested_at": "{day}T01:00:00Z"}}\n')
    found = verify_receipt(receipt.receipt, settings, NOW)
    assert not found.is_verified and found.place("landing files").remaining == 1
    place.unlink()
    assert verify_receipt(receipt.receipt, settings, NOW).is_verified


def test_without_the_key_nothing_is_written(erased, tmp_path: Path):
    settings, _, _ = erased
    foreign = settings.model_copy(update={"home": tmp_path, "stores": settings.stores.model_copy(
        update={"lake": settings.lake_url, "ledger": settings.ledger_url})})
    rows = pl.DataFrame([{name: None for name in BEHAVIOR_EVENTS.names}], BEHAVIOR_EVENTS.schema)
    rows = rows.with_columns(pl.lit(STAYS).alias("user_id"))
    from pipeline.stores import tombstones

    tombstones._read.clear()
    with pytest.raises(BadSetting, match="cannot tell who was erased"):
        Lake.of(foreign).replace(BEHAVIOR_EVENTS, FIRST, rows)


def test_the_receipt_and_the_tombstone_name_nobody(erased):
    settings, _, receipt = erased
    with sqlalchemy.create_engine(settings.ledger_url).connect() as connection:
        held = str(connection.execute(sqlalchemy.text("select * from tombstones")).all())
    assert GONE not in held and GONE not in settings.place(f"receipts/{receipt.receipt}.json").read_text()
    assert settings.place("secrets/privacy.json").stat().st_mode & 0o777 == 0o600
    assert Tombstones.of(settings).is_erased(GONE) and not Tombstones.of(settings).is_erased(STAYS)


def test_an_unknown_receipt_is_told_of(erased):
    from pipeline.steps.erasure import verify_receipt

    with pytest.raises(NotFound, match="no receipt"):
        verify_receipt("0123456789abcdef", erased[0], NOW)
