"""A home with four delivered days and steps on it, and somebody who looks on meanwhile: what the machines share."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from pipeline.contracts import BEHAVIOR_EVENTS, INTEREST_WINDOWS, ITEMS, SEQUENCE_FEATURES
from pipeline.faults import arm
from pipeline.partitions import Day
from pipeline.settings import Online, Settings
from pipeline.stores.ledger import Ledger
from pipeline.stores.tables import Lake

FIRST = Day.parse("2026-03-01")
DAYS = tuple(FIRST.plus(number) for number in range(4))
USERS = tuple(f"user-number-{number}" for number in range(8))
VIEWS = (SEQUENCE_FEATURES, INTEREST_WINDOWS)
ON_TIME, LATE = range(1, 25), range(30, 36)
"""Numbers of the events in a day's file, and in the one that comes late."""


def rows_of(day: Day, numbers: range) -> pl.DataFrame:
    """Some users a day, another one every day who stays away; one row comes twice and one is refused."""
    rows = [
        {
            "event_id": f"{day}-{n}",
            "user_id": USERS[n % 8] if n % 7 else None,
            "item_id": f"i{(3 * n + day.date.day) % 10}",
            "event_type": "view",
            "event_time": (day.start + timedelta(minutes=17 * (n % 80))).isoformat(),
            "value": None,
            "ingested_at": day.end.isoformat(),
        }
        for n in numbers
        if (n + day.date.day) % 8 > 1
    ]
    return pl.DataFrame([*rows, rows[-1]], dict.fromkeys(rows[0], pl.String()))


class World:
    """A home with four delivered days; every step says that it is a minute later than the one before."""

    def __init__(self, home: Path, online: Online):
        from pipeline.stores.feature_store import apply_definitions

        self.settings = Settings.load(home=home, online=online)
        self.clock = datetime(2026, 3, 5, tzinfo=UTC)
        if online.type == "redis":
            import redis

            host, port = online.url.split(":")
            redis.Redis(host, int(port)).flushall()
        Ledger(self.settings.ledger_url).migrate()
        items = [(f"i{n}", f"item {n}", [f"c{n % 3}"], FIRST.start) for n in range(10)]
        Lake(self.settings.lake_url).overwrite(ITEMS, pl.DataFrame(items, ITEMS.schema, orient="row"))
        for day in DAYS:
            self.deliver(day, "a.parquet", ON_TIME)
        apply_definitions(self.settings)
        self.lake, self.ledger = Lake.of(self.settings), Ledger(self.settings.ledger_url)

    def now(self) -> datetime:
        self.clock += timedelta(minutes=1)
        return self.clock

    def deliver(self, day: Day, name: str, numbers: range) -> None:
        file = self.settings.landing_path / "behavior_events" / day.key / name
        file.parent.mkdir(parents=True, exist_ok=True)
        rows_of(day, numbers).write_parquet(file)

    def run_day(self, day: Day) -> None:
        from pipeline.steps.behavior_logs import publish_events
        from pipeline.steps.sequence_features import build_features, push_features

        publish_events(day, self.settings, self.now())
        build_features(day, self.settings, self.now())
        push_features(day, self.settings)

    def backfill(self, first: Day, last: Day) -> None:
        from pipeline.steps.behavior_logs import publish_history
        from pipeline.steps.sequence_features import build_history

        assert publish_history(first, last, self.settings, self.now()).failed == {}
        build_history(first, last, self.settings, self.now())

    def erase(self, user: str) -> None:
        from pipeline.steps.erasure import forget_user

        assert forget_user(user, "asked", self.settings, self.now()).is_verified

    def rebuild_online(self) -> None:
        from pipeline.steps.online_rebuild import rebuild_online

        rebuild_online(DAYS[-1], self.settings)

    def push_day(self, day: Day) -> None:
        """Offer the rows of one day, however old, as a pipeline without our steps would."""
        from pipeline.stores.feature_store import push_online

        for table in VIEWS:
            push_online(self.settings, table.name, self.lake.current(table, day, day).collect())

    def hash(self) -> dict:
        from pipeline.steps.state_hash import state_hash

        return state_hash(self.settings).model_dump()

    def versions(self) -> list[int | None]:
        return [self.lake.version(table) for table in (BEHAVIOR_EVENTS, *VIEWS)]

    def served(self) -> dict[tuple[str, str], datetime]:
        """By view and user, the event time that is served."""
        from pipeline.stores.served_rows import served_rows

        rows = {table.name: served_rows(self.settings, table, USERS) for table in VIEWS}
        return {(view, user): moment for view, frame in rows.items()
                for user, moment in frame.select("user_id", "event_timestamp").iter_rows()}

    def served_otherwise(self) -> list[str]:
        """The users whose served values differ from the tables."""
        from pipeline.steps.online_parity import compare_online

        return [user for view in compare_online(DAYS[-1], self.settings) for user in view.differing]

    def content(self) -> dict[Day, frozenset[str]]:
        """By day, the events that are published."""
        rows = self.lake.scan(BEHAVIOR_EVENTS).select("event_id").collect()["event_id"]
        return {day: frozenset(row for row in rows if row.startswith(day.key)) for day in DAYS}

    def training_rows(self) -> pl.DataFrame:
        """What a model is trained on: everybody at the end of every day, and what was true then."""
        from pipeline.serving.training_set import training_set

        asked = [(user, day.as_of, day.key) for day in DAYS for user in USERS]
        wanted = pl.DataFrame(asked, ["user_id", "event_timestamp", "day"], orient="row")
        return training_set(wanted, "training_v1", self.settings, known_at=self.clock).rows


class Watch(threading.Thread):
    """Looks again and again while everything else goes on, and keeps what `look` raised."""

    def __init__(self, look: Callable[[], None], seconds: float = 0.2):
        super().__init__(daemon=True)
        self.look, self.seconds, self.looks, self.wrong = look, seconds, 0, []
        self.done = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.done.wait(self.seconds):
            try:
                self.look()
            except Exception as wrong:
                self.wrong.append(wrong)
            self.looks += 1

    def end(self) -> None:
        self.done.set()
        self.join(60)
        assert self.looks and self.wrong == []


@pytest.fixture
def days_of_work() -> SimpleNamespace:
    """The delivered days, and how to begin a world of them: `days_of_work.World(home, online)`."""
    return SimpleNamespace(World=World, days=DAYS, users=USERS, rows_of=rows_of, on_time=ON_TIME, late=LATE)


@pytest.fixture
def watch() -> type[Watch]:
    return Watch


@pytest.fixture(autouse=True)
def disarmed():
    yield
    arm("")
