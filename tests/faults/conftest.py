"""A small world whose logs are delivered and not yet published, and a way to run steps in processes that may die."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

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
    "publish_events": "pipeline.steps.behavior_logs:publish_events",
    "publish_history": "pipeline.steps.behavior_logs:publish_history",
    "build_features": "pipeline.steps.sequence_features:build_features",
    "build_history": "pipeline.steps.sequence_features:build_history",
    "push_features": "pipeline.steps.sequence_features:push_features",
    "rebuild_online": "pipeline.steps.online_rebuild:rebuild_online",
    "forget_user": "pipeline.steps.erasure:forget_user",
    "train_interest_model": "pipeline.steps.interest_evolution:train_interest_model",
    "gate_interest_model": "pipeline.steps.interest_evolution:gate_interest_model",
    "embed_users": "pipeline.steps.long_term_interest:embed_users",
    "apply_definitions": "pipeline.stores.feature_store:apply_definitions",
    "state_hash": "pipeline.steps.state_hash:state_hash",
    "check_home": "pipeline.steps.doctor:check_home",
}


@dataclass
class Ended:
    """How a process ended: its exit code (negative: the signal), and what the step returned or raised."""

    code: int
    told: object = None
    error: str = ""
    says: str = ""

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

    def asked(self, step: str, *arguments: object, **more: object) -> dict:
        self.clock += timedelta(minutes=1)
        given = [f"day:{a}" if isinstance(a, Day) else f"time:{a.isoformat()}" if isinstance(a, datetime) else a
                 for a in arguments]
        home, known_at = str(self.settings.home), self.clock.isoformat()
        return {"home": home, "step": STEPS[step], "arguments": given, "known_at": known_at, **more}

    def run(self, step: str, *arguments: object, **more: object) -> Ended:
        return self.processes.at_once(self.asked(step, *arguments, **more))[0]

    def run_day(self, day: Day, **more: object) -> list[Ended]:
        """What a scheduled run does with a day; stops where a process died."""
        ended = []
        for step in DAY_STEPS:
            ended.append(self.run(step, day, **more))
            if ended[-1].code:
                break
        return ended

    def run_days(self, days=DAYS) -> None:
        for day in days:
            for ended in self.run_day(day):
                ended.well()

    def hash(self) -> dict:
        return self.run("state_hash").well()

    def must_be(self, clean: dict) -> None:
        """The same content as the clean home, and nothing left lying about."""
        assert self.hash() == clean
        self.must_be_strictly_healthy()

    def must_be_strictly_healthy(self) -> None:
        findings = self.run("check_home", strict=True).well()["findings"]
        assert [f for f in findings if f["severity"] != "ok" and f["check"] != "packages"] == []


@pytest.fixture(scope="session")
def processes():
    script = Path(__file__).with_name("step_server.py")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, str(script)], **pipes) as server:
        assert server.stdout.readline() == "ready\n"
        yield Processes(server)
        server.stdin.close()


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


@pytest.fixture(scope="session")
def delivered(tmp_path_factory: pytest.TempPathFactory, registry_database: Path) -> Path:
    """A home whose days are delivered and whose definitions are applied. To be copied."""
    from pipeline.stores.feature_store import apply_definitions
    from pipeline.stores.ledger import Ledger
    from pipeline.stores.tables import Lake

    settings = Settings.load(home=tmp_path_factory.mktemp("delivered") / "home")
    settings.place("mlflow").mkdir(parents=True)
    shutil.copy(registry_database, settings.place("mlflow/mlflow.db"))
    Ledger(settings.ledger_url).migrate()
    items = [(f"i{n}", f"item {n}", [f"c{n % 3}"], FIRST.start) for n in range(12)]
    Lake.of(settings).overwrite(ITEMS, pl.DataFrame(items, ITEMS.schema, orient="row"))
    for day in DAYS:
        deliver(settings, day, rows_of(day))
    apply_definitions(settings)
    return settings.home


@pytest.fixture
def new_world(delivered: Path, processes: Processes, tmp_path: Path):
    """Makes worlds in which nothing has been published; their online stores are their own."""

    def new(name: str, source: Path = delivered) -> World:
        home = tmp_path / name / "home"
        shutil.copytree(source, home)
        world = World(Settings.load(home=home), processes)
        world.run("apply_definitions").well()
        return world

    return new


@pytest.fixture(scope="session")
def days() -> list[Day]:
    """The days that are delivered."""
    return DAYS


@pytest.fixture
def world(new_world) -> World:
    return new_world("world")


@pytest.fixture(scope="session")
def clean_home(delivered: Path, processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Where every day ran once, in order, and nothing went wrong."""
    home = tmp_path_factory.mktemp("clean") / "home"
    shutil.copytree(delivered, home)
    clean = World(Settings.load(home=home), processes)
    clean.run("apply_definitions").well()
    clean.run_days()
    return clean


@pytest.fixture(scope="session")
def clean(clean_home: World) -> dict:
    """Its state hash."""
    return clean_home.hash()
