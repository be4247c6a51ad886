"""A log small enough to be split by hand, and one with a pattern."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from pipeline.benchmark.log import BenchmarkLog, read_log
from pipeline.cli.app import app
from pipeline.events.mapping import Mapping

EARLIEST, NOW = datetime(1990, 1, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
MAPPING = """
events:
  columns: {user_id: user, item_id: item, event_time: day}
  event_type: {constant: bought}
  time: {format: "%Y-%m-%d"}
items:
  columns: {item_id: item, title: title, categories: kind}
"""
RULES = Mapping.model_validate(yaml.safe_load(MAPPING))


def write_log(folder: Path, events: list[str], items: list[str] | None = None) -> Path:
    """`events.csv` of lines `user,item,day`, where given `items.csv` of lines `item,title,kind`, and `mapping.yaml`."""
    for name, head, lines in (("events.csv", "user,item,day", events), ("items.csv", "item,title,kind", items)):
        if lines:
            (folder / name).write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    (folder / "mapping.yaml").write_text(MAPPING, encoding="utf-8")
    return folder


@pytest.fixture
def log_of(tmp_path: Path) -> Callable[..., BenchmarkLog]:
    """A log from lines of events and, where given, of items."""

    def build(events: list[str], items: list[str] | None = None) -> BenchmarkLog:
        folder = write_log(tmp_path, events, items)
        return read_log(folder / "events.csv", folder / "items.csv" if items else None, RULES, EARLIEST, NOW)

    return build


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a log of 40 users who each go round one of two shelves."""
    lines = []
    for user in range(40):
        shelf = "ab"[user % 2]
        for step in range(6 + user % 5):
            day = 1 + (user % 7) + 2 * step
            lines.append(f"u{user},{shelf}{(user + step) % 12},2026-03-{day:02d}")
    names = [f"{shelf}{n},{shelf} thing number {n},shelf {shelf}" for shelf in "ab" for n in range(12)]
    names.append("a99,a thing nobody bought,shelf a")
    return write_log(tmp_path_factory.mktemp("shop"), lines, names)


@pytest.fixture
def shop_of(tmp_path: Path) -> Callable[[list[str]], Path]:
    """A folder with a log of these lines of events, and without items."""
    return partial(write_log, tmp_path)


@pytest.fixture(scope="session")
def run() -> Callable[..., Result]:
    """Runs the command on the log of a folder: `run(shop, out, *options)`."""

    def run(shop: Path, out: Path, *options: str) -> Result:
        items = ("--items", str(shop / "items.csv")) if (shop / "items.csv").is_file() else ()
        given = ("--events", str(shop / "events.csv"), *items, "--mapping", str(shop / "mapping.yaml"))
        return CliRunner().invoke(app, ["benchmark", *given, "--out", str(out), *options])

    return run
