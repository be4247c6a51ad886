"""
Laws 1, 2, 3, 6, 7 and 10 together: days, backfills, late files, crashes, rebuilds and erasures in any order, on real
stores, end in the state of the one clean chronological run; and nothing is broken on the way.
"""

import itertools
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as how_much
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from pipeline.contracts import BEHAVIOR_EVENTS, INTEREST_WINDOWS, ITEMS, SEQUENCE_FEATURES
from pipeline.errors import EngineFailure
from pipeline.faults import arm
from pipeline.partitions import Day
from pipeline.settings import Online, Settings
from pipeline.stores.ledger import Ledger
from pipeline.stores.tables import Lake

FIRST = Day.parse("2026-03-01")
DAYS = tuple(FIRST.plus(number) for number in range(4))
USERS = tuple(f"user-number-{number}" for number in range(8))
VIEWS = (SEQUENCE_FEATURES, INTEREST_WINDOWS)
POINTS = ("publish.validate", "publish.before_commit", "publish.after_commit", "push.before_batch")
days, users = st.sampled_from(DAYS), st.sampled_from(USERS)


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


def deliver(settings: Settings, day: Day, name: str, numbers: range) -> None:
    file = settings.landing_path / "behavior_events" / day.key / name
    file.parent.mkdir(parents=True, exist_ok=True)
    rows_of(day, numbers).write_parquet(file)


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
            deliver(self.settings, day, "a.parquet", range(1, 25))
        apply_definitions(self.settings)
        self.lake, self.ledger = Lake.of(self.settings), Ledger(self.settings.ledger_url)

    def now(self) -> datetime:
        self.clock += timedelta(minutes=1)
        return self.clock

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

    def hash(self) -> dict:
        from pipeline.steps.state_hash import state_hash

        return state_hash(self.settings).model_dump()

    def served(self) -> dict[tuple[str, str], datetime]:
        from pipeline.stores.served_rows import served_rows

        rows = {table.name: served_rows(self.settings, table, USERS) for table in VIEWS}
        return {(view, user): moment for view, frame in rows.items()
                for user, moment in frame.select("user_id", "event_timestamp").iter_rows()}

    def content(self, day: Day) -> set[str]:
        return set(self.lake.read(BEHAVIOR_EVENTS, day)["event_id"])


def machine(online: Online, folder: Path, clean: dict) -> type[RuleBasedStateMachine]:
    """The rules over one kind of online store. `clean` keeps the hashes of chronological runs by what they were fed."""
    homes = itertools.count()

    class AnyOrder(RuleBasedStateMachine):
        @initialize()
        def begin(self):
            self.world = World(folder / f"home-{next(homes)}", online)
            self.late: set[Day] = set()
            self.due = set(DAYS)
            self.erased: set[str] = set()
            self.before: dict = {}

        @rule(day=days)
        def run_a_day(self, day):
            self.world.run_day(day)
            self.due.discard(day)

        @rule(one=days, other=days)
        def backfill_a_range(self, one, other):
            self.world.backfill(min(one, other), max(one, other))
            self.due -= {day for day in DAYS if min(one, other) <= day <= max(one, other)}

        @rule(day=days)
        def deliver_a_late_file(self, day):
            deliver(self.world.settings, day, "late.parquet", range(30, 36))
            self.late.add(day)
            self.due.add(day)

        @rule(day=days, point=st.sampled_from(POINTS), time=st.integers(1, 3))
        def crash_in_a_day(self, day, point, time):
            old = self.world.content(day)
            self.due.add(day)
            arm(f"{point}:raise:{time}")
            try:
                self.world.run_day(day)
            except EngineFailure as crash:
                assert point in str(crash)
            finally:
                arm("")
            wanted = {n for n in rows_of(day, range(1, 25)).filter(pl.col("user_id").is_not_null())["event_id"]}
            found = self.world.content(day)
            assert found == old or len(found) >= len(old), "a mix of the old and the new day"
            assert not found or self.late or self.erased or found == wanted

        @rule()
        def push_everything_online(self):
            self.world.rebuild_online()

        @rule(user=users)
        def erase_a_user(self, user):
            if len(self.erased) < 2:
                self.world.erase(user)
                self.erased.add(user)

        @invariant()
        def nothing_is_lost(self):
            for line in self.world.ledger.partitions(BEHAVIOR_EVENTS.name):
                said = line.counts
                kept = said["published"] + said["quarantined"] + said["duplicates"] + said.get("erased", 0)
                assert said["read"] == kept, line

        @invariant()
        def nothing_served_goes_back(self):
            served = self.world.served()
            for key, moment in self.before.items():
                assert key[1] in self.erased or served[key] >= moment
            self.before = served

        @invariant()
        def erased_stays_erased(self):
            assert {user for _, user in self.before} & self.erased == set()
            for table in (BEHAVIOR_EVENTS, *VIEWS):
                found = set(self.world.lake.scan(table).select("user_id").unique().collect()["user_id"])
                assert found & self.erased == set()

        def teardown(self):
            if not hasattr(self, "world"):
                return
            for day in sorted(self.due, reverse=True):  # Only what is due, the newest first: nothing else mends.
                self.world.run_day(day)
            self.world.rebuild_online()
            ended = self.world.hash()
            versions = [self.world.lake.version(table) for table in (BEHAVIOR_EVENTS, *VIEWS)]
            self.world.run_day(DAYS[1])
            assert self.world.hash() == ended, "a second run changed something"
            assert [self.world.lake.version(table) for table in (BEHAVIOR_EVENTS, *VIEWS)] == versions
            assert ended == self.chronological()
            shutil.rmtree(self.world.settings.home)

        def chronological(self) -> dict:
            fed = (frozenset(self.late), frozenset(self.erased))
            if fed not in clean:
                world = World(folder / f"home-{next(homes)}", online)
                for day in self.late:
                    deliver(world.settings, day, "late.parquet", range(30, 36))
                for day in DAYS:
                    world.run_day(day)
                for user in sorted(self.erased):
                    world.erase(user)
                clean[fed] = world.hash()
            return clean[fed]

    return AnyOrder


@pytest.fixture(autouse=True)
def disarmed():
    yield
    arm("")


def tries(examples: int, steps: int) -> how_much:
    return how_much(
        max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True, database=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )


@pytest.mark.fault("any order of days, backfills, late files, crashes and erasures, a few")
@pytest.mark.timeout(900)
def test_a_few_orders_end_in_one_state(tmp_path):
    run_state_machine_as_test(machine(Online(), tmp_path, {}), settings=tries(3, 6))


@pytest.mark.fault("any order of days, backfills, late files, crashes and erasures, many")
@pytest.mark.faults_long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_many_orders_end_in_one_state(tmp_path, request, kind):
    online = Online(type="redis", url=request.getfixturevalue("redis_address")) if kind == "redis" else Online()
    run_state_machine_as_test(machine(online, tmp_path, {}), settings=tries(20, 12))
