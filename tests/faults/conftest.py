"""A small world whose logs are delivered and not yet published, and a way to run steps in processes that may die."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from pipeline.contracts import ITEMS
from pipeline.partitions import Day
from pipeline.settings import Settings

FIRST = Day.parse("2026-03-01")
DAYS = [FIRST.plus(number) for number in range(4)]
USERS = [f"u{number}" for number in range(9)]
KNOWN_AT = datetime(2026, 4, 1, 12, tzinfo=UTC)
DAY_STEPS = ("publish_events", "build_features", "push_features")
STEPS = {
    "prepare": "pipeline.steps.preparation:prepare_stores",
    "publish_events": "pipeline.steps.behavior_logs:publish_events",
    "publish_history": "pipeline.steps.behavior_logs:publish_history",
    "build_features": "pipeline.steps.sequence_features:build_features",
    "build_history": "pipeline.steps.sequence_features:build_history",
    "push_features": "pipeline.steps.sequence_features:push_features",
    "rebuild_ledger": "pipeline.steps.ledger_rebuild:rebuild_ledger",
    "rebuild_online": "pipeline.steps.online_rebuild:rebuild_online",
    "forget_user": "pipeline.steps.erasure:forget_user",
    "train_interest_model": "pipeline.steps.interest_evolution:train_interest_model",
    "gate_interest_model": "pipeline.steps.interest_evolution:gate_interest_model",
    "embed_users": "pipeline.steps.long_term_interest:embed_users",
    "apply_definitions": "pipeline.stores.feature_store:apply_definitions",
    "look_up": "pipeline.serving.lookup:look_up",
    "state_hash": "pipeline.steps.state_hash:state_hash",
    "check_home": "pipeline.steps.doctor:check_home",
}


@dataclass
class Ended:
    """How a process ended: its exit code (negative: the signal), and what the step returned or raised."""

    code: int
    told: object = None
    all_told: list = field(default_factory=list)
    error: str = ""
    says: str = ""
    peak_mb: float = 0.0

    def well(self):
        assert self.code == 0, f"{self.error}: {self.says}"
        return self.told


@dataclass
class Processes:
    """Runs steps, each in a process of its own."""

    server: subprocess.Popen
    children: list[int] = field(default_factory=list)

    def begin(self, *asked: dict) -> None:
        self.server.stdin.write(json.dumps(asked) + "\n")
        self.server.stdin.flush()
        self.children = json.loads(self.server.stdout.readline())["children"]

    def end(self) -> list[Ended]:
        return [Ended(**ended) for ended in json.loads(self.server.stdout.readline())]

    def at_once(self, *asked: dict) -> list[Ended]:
        self.begin(*asked)
        return self.end()


@dataclass
class World:
    """One home, and steps run on it. Every step says that it is a minute later than the one before."""

    settings: Settings
    processes: Processes
    clock: datetime = KNOWN_AT
    given: dict = field(default_factory=dict)
    """Settings beside those of the home's file."""

    def asked(self, step: str, *arguments: object, **more: object) -> dict:
        self.clock += timedelta(minutes=1)
        given = [f"day:{a}" if isinstance(a, Day) else f"time:{a.isoformat()}" if isinstance(a, datetime) else a
                 for a in arguments]
        home, known_at = str(self.settings.home), self.clock.isoformat()
        asked = {"home": home, "step": STEPS[step], "arguments": given, "known_at": known_at, "settings": self.given}
        return asked | more

    def run(self, step: str, *arguments: object, **more: object) -> Ended:
        return self.processes.at_once(self.asked(step, *arguments, **more))[0]

    def asked_days(self, days: Iterable[Day], **more: object) -> dict:
        """What the scheduled runs of some days do, one after the other, in one process."""
        first, *others = [self.asked(step, day) for day in days for step in DAY_STEPS]
        return first | {"then": others} | more

    def run_days(self, days: Iterable[Day], **more: object) -> Ended:
        return self.processes.at_once(self.asked_days(days, **more))[0]

    def hash(self) -> dict:
        return self.run("state_hash").well()

    def must_be(self, clean: dict) -> None:
        """The same content as the clean home, and nothing left lying about."""
        ended = self.run("state_hash", then=[self.asked("check_home", False, True)])
        ended.well()
        found, diagnosis = ended.all_told
        assert found == clean
        is_strictly_healthy(diagnosis)

    def must_be_strictly_healthy(self) -> None:
        is_strictly_healthy(self.run("check_home", False, True).well())


def is_strictly_healthy(diagnosis: dict) -> None:
    assert [f for f in diagnosis["findings"] if f["severity"] != "ok" and f["check"] != "packages"] == []


@pytest.fixture(scope="session")
def processes():
    script = Path(__file__).with_name("step_server.py")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, str(script)], **pipes) as server:
        assert server.stdout.readline() == "ready\n"
        yield Processes(server)
        server.kill()


def event(day: Day, number: int, **changes: object) -> dict:
    return {
        "event_id": f"{day}-{number}",
        "user_id": USERS[number % len(USERS)],
        "item_id": f"i{(number * 7 + day.date.day) % 12}",
        "event_type": ("view", "cart", "purchase")[number % 3],
        "event_time": (day.start + timedelta(minutes=13 * number)).isoformat(),
        "value": None,
        "ingested_at": day.end.isoformat(),
    } | changes


def deliver(settings: Settings, day: Day, rows: list[dict], name: str = "a.parquet") -> Path:
    """A landing file, as a collector writes it."""
    file = settings.landing_path / "behavior_events" / day.key / name
    file.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, {name: pl.String() for name in event(day, 0)}).write_parquet(file)
    return file


def rows_of(day: Day) -> list[dict]:
    """Sixty events, a user less every day, two rows that are refused and one that comes twice."""
    rows = [event(day, number) for number in range(60) if number % len(USERS) < len(USERS) - (day.date.day - 1)]
    return [*rows, rows[3], event(day, 100, user_id=None), event(day, 101, event_type="unheard")]


@dataclass
class Homes:
    """One place in which every test finds a home in the state it asks for: nothing in it ever has to be moved."""

    place: Path
    kept: Path
    processes: Processes
    clocks: dict[str, datetime] = field(default_factory=dict)

    def keep(self, name: str, world: World) -> None:
        shutil.copytree(self.place, self.kept / name)
        self.clocks[name] = world.clock

    def put_back(self, name: str) -> World:
        """The home as it was kept, and its clock: nothing is known before what it holds."""
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.kept / name, self.place)
        return World(Settings.load(home=self.place), self.processes, self.clocks[name])


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory, registry_database: Path, processes: Processes) -> Homes:
    """`delivered`: logs have arrived. `two days`: two of them ran. `clean`: all ran once, in order."""
    from pipeline.stores.tables import Lake

    folder = tmp_path_factory.mktemp("faults")
    settings = Settings.load(home=folder / "home")
    settings.place("mlflow").mkdir(parents=True)
    shutil.copy(registry_database, settings.place("mlflow/mlflow.db"))
    world = World(settings, processes)
    world.run("prepare").well()
    items = [(f"i{n}", f"item {n}", [f"c{n % 3}"], FIRST.start) for n in range(12)]
    Lake(settings.lake_url).overwrite(ITEMS, pl.DataFrame(items, ITEMS.schema, orient="row"))
    for day in DAYS:
        deliver(settings, day, rows_of(day))
    homes = Homes(settings.home, folder / "kept", processes)
    homes.keep("delivered", world)
    world.run_days(DAYS[:2]).well()
    homes.keep("two days", world)
    world.run_days(DAYS[2:]).well()
    homes.keep("clean", world)
    return homes


@pytest.fixture(scope="session")
def model_homes(tmp_path_factory: pytest.TempPathFactory, planted_home: Path, processes: Processes) -> Homes:
    """`planted`: a log of nine weeks whose features are built and served, and no model."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(planted_home, folder / "home")
    homes = Homes(folder / "home", folder / "kept", processes)
    world = World(Settings.load(home=homes.place), processes)
    world.run("prepare").well()
    world.run("rebuild_ledger").well()  # That log was written without its steps, so its days have no line yet.
    world.run("rebuild_online", FIRST).well()
    homes.keep("planted", world)
    return homes


@pytest.fixture(scope="session")
def clean(homes: Homes) -> dict:
    """The state hash of the home in which nothing went wrong."""
    return homes.put_back("clean").hash()


@pytest.fixture(scope="session")
def days() -> list[Day]:
    """The days that are delivered."""
    return DAYS


@pytest.fixture
def world(homes: Homes, clean: dict) -> World:
    """Two of four days have run."""
    return homes.put_back("two days")


@pytest.fixture
def new_world(homes: Homes, clean: dict) -> World:
    """Nothing has been published."""
    return homes.put_back("delivered")


@pytest.fixture
def clean_world(homes: Homes, clean: dict) -> World:
    """All days have run."""
    return homes.put_back("clean")


@pytest.fixture
def collector():
    """Makes events and landing files: `collector.event(day, number, **changes)`, `collector.deliver(...)`."""
    return SimpleNamespace(event=event, deliver=deliver, rows_of=rows_of, users=USERS)
