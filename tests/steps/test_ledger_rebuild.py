"""A lost ledger is rebuilt from the commits of the tables, whatever the steps did before."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from pipeline.contracts import ITEMS
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.steps.behavior_logs import publish_events, publish_history
from pipeline.steps.ledger_rebuild import disagreements, rebuild_ledger
from pipeline.steps.sequence_features import build_features, build_history
from pipeline.stores.ledger import Ledger
from pipeline.stores.tables import Lake

FIRST, SECOND, THIRD = (Day.parse(f"2026-03-0{n}") for n in (1, 2, 3))
LATER = datetime(2026, 6, 1, tzinfo=UTC)


def deliver(settings: Settings, day: Day, users: int, refused: int = 1, twice: int = 1) -> None:
    """A file of good rows, of rows without a user, and of rows that come twice."""
    rows = [
        {
            "event_id": f"{day}-{n}",
            "user_id": None if n < refused else f"u{n}",
            "item_id": f"i{n % 3}",
            "event_type": "view",
            "event_time": (day.start + timedelta(minutes=n)).isoformat(),
            "value": None,
            "ingested_at": day.end.isoformat(),
        }
        for n in range(users + refused)
    ]
    place = settings.landing_path / "behavior_events" / day.key / "a.parquet"
    place.parent.mkdir(parents=True, exist_ok=True)
    schema = dict.fromkeys(rows[0], pl.String())
    pl.DataFrame([*rows, *rows[len(rows) - twice :]], schema=schema).write_parquet(place)


def test_a_ledger_rebuilt_after_corrections_and_late_days_equals_the_one_before(
    settings: Settings, lake: Lake, ledger: Ledger, known_at: datetime
):
    lake.overwrite(ITEMS, ITEMS.empty())
    for day in (FIRST, THIRD):
        deliver(settings, day, users=20)
    publish_events(FIRST, settings, known_at)
    publish_events(THIRD, settings, known_at)
    build_history(FIRST, THIRD, settings, known_at)
    deliver(settings, SECOND, users=15, refused=2)  # a late day, which changes the users of the third
    deliver(settings, FIRST, users=18)  # and a correction
    publish_history(FIRST, THIRD, settings, LATER)
    build_features(SECOND, settings, LATER)
    build_features(FIRST, settings, LATER)
    publish_history(FIRST, THIRD, settings, LATER + timedelta(days=1))  # changes nothing
    before = ledger.partitions()
    assert disagreements(lake, ledger) == []
    assert {record.table_name for record in before} == {
        "behavior_events",
        "quarantined_events",
        "sequence_features",
        "interest_windows",
    }
    ledger.engine.dispose()
    for ending in ("", "-wal", "-shm"):
        Path(f"{settings.place('ledger.db')}{ending}").unlink(missing_ok=True)

    rebuilt = rebuild_ledger(settings)

    assert (rebuilt.partitions, rebuilt.without_note) == (12, 0)
    assert Ledger(settings.ledger_url).partitions() == before


def test_rebuilding_a_whole_ledger_changes_nothing(settings, lake, ledger, known_at):
    deliver(settings, FIRST, users=20)
    publish_events(FIRST, settings, known_at)
    before = ledger.partitions()

    rebuild_ledger(settings)

    assert ledger.partitions() == before


def test_a_ledger_that_says_something_else_than_the_table_is_found_out(settings, lake, ledger, known_at):
    deliver(settings, FIRST, users=20)
    publish_events(FIRST, settings, known_at)
    record = ledger.partition("behavior_events", FIRST.key)
    ledger.record_partition(record.model_copy(update={"counts": record.counts | {"published": 21}}))

    (found,) = disagreements(lake, ledger)

    assert (found.table, found.partition, found.in_table) == ("behavior_events", FIRST.key, "20 rows")
