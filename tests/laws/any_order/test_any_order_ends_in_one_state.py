"""
Laws 1 to 4, 6, 7 and 10 together: days, backfills, late files, crashes, rebuilds and erasures in any order, on real
stores, end in the state of the one clean chronological run; and nobody who looks on sees anything broken on the way.
"""

import itertools
import shutil

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as how_much
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from pipeline.contracts import BEHAVIOR_EVENTS, INTEREST_WINDOWS, SEQUENCE_FEATURES
from pipeline.errors import EngineFailure
from pipeline.faults import arm
from pipeline.settings import Online

VIEWS = (SEQUENCE_FEATURES, INTEREST_WINDOWS)
POINTS = ("publish.validate", "publish.before_commit", "publish.after_commit", "push.before_batch")


class Reader:
    """Somebody who reads all that is served and published, while it is written."""

    def __init__(self, world):
        self.world, self.newest, self.went_away, self.contents = world, {}, set(), set()

    def look(self) -> None:
        served, before = self.world.served(), self.newest
        self.newest = served
        self.went_away |= {user for _, user in before.keys() - served.keys()}
        self.contents |= set(self.world.content().items())
        assert {key: at for key, at in served.items() if at < before.get(key, at)} == {}, "it went back"


def machine(work, watch, online: Online, folder, clean: dict) -> type[RuleBasedStateMachine]:
    """The rules over one kind of online store. `clean` keeps the hashes of chronological runs by what they were fed."""
    homes = itertools.count()
    days = st.sampled_from(work.days)

    class AnyOrder(RuleBasedStateMachine):
        @initialize()
        def begin(self):
            self.world = work.World(folder / f"home-{next(homes)}", online)
            self.late, self.erased, self.due = set(), set(), set(work.days)
            self.before: dict = {}
            self.whole = set(self.world.content().items())
            """Every day as it was when no step was at work."""
            self.trained_on = self.world.training_rows()
            self.touched = work.days[-1].plus(1)
            """The first day that the last step had to do with."""
            self.reader = Reader(self.world)
            self.watch = watch(self.reader.look)

        def work_on(self, *touched):
            self.touched = min(touched, default=work.days[-1].plus(1))

        @rule(day=days)
        def run_a_day_twice(self, day):
            self.work_on(day)
            self.world.run_day(day)
            self.due.discard(day)
            versions, served = self.world.versions(), self.world.served()
            self.world.run_day(day)
            assert (self.world.versions(), self.world.served()) == (versions, served), "the second run was not as none"

        @rule(one=days, other=days)
        def backfill_a_range(self, one, other):
            first, last = sorted((one, other))
            self.work_on(first)
            self.world.backfill(first, last)
            self.due -= {day for day in work.days if first <= day <= last}

        @rule(day=days)
        def deliver_a_late_file(self, day):
            self.work_on()
            self.world.deliver(day, "late.parquet", work.late)
            self.late.add(day)
            self.due.add(day)

        @rule(day=days, point=st.sampled_from(POINTS), time=st.integers(1, 3))
        def crash_in_a_day(self, day, point, time):
            self.work_on(day)
            self.due.add(day)
            arm(f"{point}:raise:{time}")
            try:
                self.world.run_day(day)
            except EngineFailure as crash:
                assert point in str(crash)
            finally:
                arm("")
            found = self.world.content()[day]
            wanted = work.rows_of(day, work.on_time).filter(pl.col("user_id").is_not_null())["event_id"]
            assert (day, found) in self.whole or self.late or self.erased or found == set(wanted), "a mix of two states"

        @rule(day=days)
        def push_one_day_as_it_stands(self, day):
            self.work_on()
            self.world.push_day(day)

        @rule()
        def push_everything_online(self):
            self.work_on()
            self.world.rebuild_online()
            assert self.world.served_otherwise() == []

        @rule(user=st.sampled_from(work.users))
        def erase_a_user(self, user):
            self.work_on()
            if len(self.erased) < 2:
                self.world.erase(user)
                self.erased.add(user)

        @rule()
        def run_what_is_due(self):
            """The newest day first, and nothing else: the state is the one of the chronological run."""
            self.work_on(*self.due)
            for day in sorted(self.due, reverse=True):
                self.world.run_day(day)
            self.due = set()
            self.world.rebuild_online()
            assert self.world.hash() == self.chronological()
            assert self.world.served_otherwise() == []

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
        def whoever_looks_on_sees_whole_days_and_no_time_go_back(self):
            self.whole |= set(self.world.content().items())
            assert self.watch.wrong == []
            assert self.reader.went_away <= self.erased, "somebody was not served for a while"
            assert self.reader.contents <= self.whole, "a part of a step was seen"

        @invariant()
        def no_training_row_knows_a_later_day(self):
            rows, untouched = self.world.training_rows(), pl.col("day") < self.touched.key
            stays = untouched & ~pl.col("user_id").is_in(self.erased)
            assert rows.filter(stays).equals(self.trained_on.filter(stays)), "a row changed with its future"
            self.trained_on = rows

        @invariant()
        def erased_stays_erased(self):
            assert {user for _, user in self.world.served()} & self.erased == set()
            for table in (BEHAVIOR_EVENTS, *VIEWS):
                found = set(self.world.lake.scan(table).select("user_id").unique().collect()["user_id"])
                assert found & self.erased == set()

        def teardown(self):
            if not hasattr(self, "watch"):
                return
            self.run_what_is_due()
            self.watch.end()
            self.whoever_looks_on_sees_whole_days_and_no_time_go_back()
            self.no_training_row_knows_a_later_day()
            shutil.rmtree(self.world.settings.home)

        def chronological(self) -> dict:
            fed = (frozenset(self.late), frozenset(self.erased))
            if fed not in clean:
                world = work.World(folder / f"home-{next(homes)}", Online())
                for day in self.late:
                    world.deliver(day, "late.parquet", work.late)
                for day in work.days:
                    world.run_day(day)
                for user in sorted(self.erased):
                    world.erase(user)
                clean[fed] = world.hash()
            return clean[fed]

    return AnyOrder


def tries(examples: int, steps: int) -> how_much:
    return how_much(
        max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True, database=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )


@pytest.mark.fault("any order of days, backfills, late files, crashes and erasures, a few steps")
@pytest.mark.timeout(900)
def test_a_few_steps_in_any_order_end_in_one_state(days_of_work, watch, tmp_path):
    run_state_machine_as_test(machine(days_of_work, watch, Online(), tmp_path, {}), settings=tries(1, 6))


@pytest.mark.fault("any order of days, backfills, late files, crashes and erasures, many steps")
@pytest.mark.faults_long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_many_orders_end_in_one_state(days_of_work, watch, tmp_path, request, kind):
    online = Online(type="redis", url=request.getfixturevalue("redis_address")) if kind == "redis" else Online()
    run_state_machine_as_test(machine(days_of_work, watch, online, tmp_path, {}), settings=tries(12, 12))
