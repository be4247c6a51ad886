"""
Laws 6, 8, 10 and 11 together: promotions, rollbacks, served days, crashes and erasures in any order, on two releases
that were trained before. Whoever reads meanwhile gets one space in every answer, and a crash leaves no trace.
"""

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as how_much
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_it

from pipeline.contracts import LONG_TERM_INTEREST, RECOMMENDATIONS
from pipeline.errors import EngineFailure
from pipeline.faults import arm
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.stores.promotions import promote
from pipeline.stores.registry import Registry
from pipeline.stores.tables import Lake

VIEWS = (LONG_TERM_INTEREST, RECOMMENDATIONS)
RELEASE = "collaborative_filter"
POINTS = (
    "publish.before_commit",
    "publish.after_commit",
    "push.before_batch",
    "promote.before_status",
    "promote.before_alias",
    "promote.before_ledger",
)
READ_USER = "u07"
ERASABLE = ("u01", "u02", "u03")


class Reader:
    """Somebody who asks for one user's vector and list again and again."""

    def __init__(self, settings: Settings):
        self.settings, self.spaces, self.newest = settings, set(), {}

    def look(self) -> None:
        from pipeline.serving.lookup import look_up

        views = look_up(self.settings, READ_USER, "both", datetime(2026, 2, 1, tzinfo=UTC)).views
        found = {name: view for name, view in views.items() if view.status not in ("withheld", "not_found")}
        spaces = {view.space_id for view in found.values()}
        assert len(spaces) == 1, f"{len(spaces)} spaces in one answer: {views}"
        self.spaces |= spaces
        for name, view in found.items():
            assert view.event_time >= self.newest.get(name, view.event_time), f"{name} went back"
            self.newest[name] = view.event_time


class World:
    """The home with two releases, of which the second is a candidate again, and steps on it."""

    def __init__(self, settings: Settings):
        self.settings, self.clock = settings, datetime(2026, 1, 2, tzinfo=UTC)
        apply_service(settings)

    def now(self) -> datetime:
        self.clock += timedelta(minutes=1)
        return self.clock

    def statuses(self) -> list[str]:
        return [version.status for version in Registry(self.settings).versions(RELEASE)]

    def serve(self, day: Day, at: datetime) -> None:
        from pipeline.steps.long_term_interest import embed_users
        from pipeline.steps.recommendations import recommend_items

        embed_users(day, self.settings, at, everyone=True)
        recommend_items(day, self.settings, at)

    def promote(self, at: datetime) -> None:
        from pipeline.steps.releases import restate_release

        registry = Registry(self.settings)
        promote(registry, registry.version(RELEASE, 2), ["for tests"], "tests", at)
        restate_release(self.settings, at)

    def roll_back(self, to: int, at: datetime) -> None:
        from pipeline.steps.releases import roll_back

        roll_back(to, "for tests", "tests", self.settings, at)

    def erase(self, user: str, at: datetime) -> None:
        from pipeline.steps.erasure import forget_user

        assert forget_user(user, "asked", self.settings, at).is_verified

    def served_otherwise(self) -> list[str]:
        """The users whose served vector or list differs from the newest in the tables."""
        from pipeline.steps.online_parity import compare_online

        views = compare_online(Day.of(self.clock), self.settings)
        return [user for view in views if view.view in (LONG_TERM_INTEREST.name, RECOMMENDATIONS.name)
                for user in view.differing]

    def hash(self) -> dict:
        from pipeline.steps.state_hash import state_hash

        return state_hash(self.settings).model_dump()


def apply_service(settings: Settings) -> None:
    """A service of both views; a home that was moved has to be told where it is."""
    from feast import FeatureService

    from pipeline.stores.feature_store import apply_definitions, open_feature_store

    apply_definitions(settings)
    store = open_feature_store(settings)
    store.apply([FeatureService(name="both", features=[store.get_feature_view(table.name) for table in VIEWS])])


def machine(new_world, watch, days: tuple[Day, ...]) -> type[RuleBasedStateMachine]:
    class AnyRelease(RuleBasedStateMachine):
        @initialize()
        def begin(self):
            self.world = new_world()
            self.erased: set[str] = set()
            self.world.serve(days[0], self.world.now())
            self.reader = Reader(self.world.settings)
            self.watch = watch(self.reader.look)

        @rule(day=st.sampled_from(days))
        def serve_a_day(self, day):
            self.world.serve(day, self.world.now())

        @precondition(lambda self: self.world.statuses()[1] == "candidate")
        @rule()
        def promote(self):
            self.world.promote(self.world.now())

        @precondition(lambda self: self.world.statuses()[1] != "candidate")
        @rule(to=st.sampled_from([1, 2]))
        def roll_back(self, to):
            self.world.roll_back(to, self.world.now())
            before = self.world.hash()
            self.world.roll_back(to, self.world.now())
            assert self.world.hash() == before, "the second time was not as once"

        @rule(user=st.sampled_from(ERASABLE))
        def erase(self, user):
            self.world.erase(user, self.world.now())
            self.erased.add(user)

        @rule(point=st.sampled_from(POINTS), time=st.integers(1, 2), to=st.sampled_from([1, 2]), back=st.booleans())
        def crash_on_the_way(self, point, time, to, back):
            """The same on two homes of one state: undisturbed, and with a crash and another try."""
            at, is_new = self.world.now(), self.world.statuses()[1] == "candidate"

            def step(world):
                if not back:
                    world.serve(days[-1], at)
                elif is_new:
                    world.promote(at)
                else:
                    world.roll_back(to, at)

            undisturbed = new_world(self.world)
            step(undisturbed)
            arm(f"{point}:raise:{time}")
            try:
                step(self.world)
            except EngineFailure as crash:
                assert point in str(crash)
            finally:
                arm("")
            step(self.world)
            assert self.world.hash() == undisturbed.hash()

        @invariant()
        def every_answer_is_of_one_space_and_of_no_earlier_time(self):
            assert self.watch.wrong == []

        @invariant()
        def what_is_served_is_what_the_tables_say(self):
            assert self.world.served_otherwise() == []

        @invariant()
        def the_pointer_names_what_serves(self):
            registry = Registry(self.world.settings)
            champion, carrier = registry.champion(RELEASE), registry.aliased(RELEASE, "champion")
            assert champion.number == carrier.number
            keys = [version.run_key for version in registry.versions(RELEASE)]
            assert len(keys) == len(set(keys)) == 2

        @invariant()
        def erased_stays_erased(self):
            for table in VIEWS:
                rows = Lake.of(self.world.settings).scan(table).select("user_id").unique().collect()
                assert set(rows["user_id"]) & self.erased == set()

        def teardown(self):
            if hasattr(self, "watch"):
                self.watch.end()
                assert self.reader.spaces

    return AnyRelease


@pytest.fixture
def new_world(two_releases: Settings, moved, tmp_path: Path):
    """Copies of a world, or of the first one, each at a place of its own: stores that are open cannot be put back."""
    Registry(two_releases).mlflow.client.set_model_version_tag(RELEASE, "2", "status", "candidate")
    Registry(two_releases).mlflow.client.set_registered_model_alias(RELEASE, "champion", "1")
    made = itertools.count()

    def new(of: World | None = None) -> World:
        source = of.settings.home if of else two_releases.home
        return World(moved(source, tmp_path / f"world-{next(made)}"))

    return new


@pytest.mark.fault("any order of promotions, rollbacks, served days, crashes and erasures")
@pytest.mark.faults_long
@pytest.mark.timeout(3600)
def test_any_order_of_releases_keeps_one_space_and_leaves_no_trace_of_a_crash(new_world, watch, planted_start):
    days = tuple(Day.of(planted_start + timedelta(weeks=8, days=number)) for number in range(2))
    amount = how_much(
        max_examples=6, stateful_step_count=6, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_it(machine(new_world, watch, days), settings=amount)
