"""A log small enough to be split by hand, and one with a pattern."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.benchmark.log import BenchmarkLog, read_log
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
RULES = Mapping.model_validate({
    "events": {
        "columns": {"user_id": "user", "item_id": "item", "event_time": "day"},
        "event_type": {"constant": "bought"},
        "time": {"format": "%Y-%m-%d"},
    },
    "items": {"columns": {"item_id": "item", "title": "title", "categories": "kind"}},
})


@pytest.fixture
def log_of(tmp_path: Path) -> Callable[..., BenchmarkLog]:
    """From lines `user,item,day` and, where given, lines `item,title,kind`."""

    def build(events: list[str], items: list[str] | None = None) -> BenchmarkLog:
        (tmp_path / "events.csv").write_text("\n".join(["user,item,day", *events]) + "\n", encoding="utf-8")
        place = None
        if items is not None:
            place = tmp_path / "items.csv"
            place.write_text("\n".join(["item,title,kind", *items]) + "\n", encoding="utf-8")
        return read_log(tmp_path / "events.csv", place, RULES, EARLIEST, NOW)

    return build


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `events.csv`, `items.csv` and `mapping.yaml`: 40 users who each go round one of two shelves."""
    folder = tmp_path_factory.mktemp("shop")
    lines = ["user,item,day"]
    for user in range(40):
        shelf = "ab"[user % 2]
        for step in range(6 + user % 5):
            day = 1 + (user % 7) + 2 * step
            lines.append(f"u{user},{shelf}{(user + step) % 12},2026-03-{day:02d}")
    (folder / "events.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    names = [f"{shelf}{n},{shelf} thing number {n},shelf {shelf}" for shelf in "ab" for n in range(12)]
    names.append("a99,a thing nobody bought,shelf a")
    (folder / "items.csv").write_text("\n".join(["item,title,kind", *names]) + "\n", encoding="utf-8")
    (folder / "mapping.yaml").write_text(MAPPING, encoding="utf-8")
    return folder
