"""A command line, and a home with a week in it, written through the real stores."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.contracts import BEHAVIOR_EVENTS, INTEREST_WINDOWS, ITEMS, QUARANTINED_EVENTS
from pipeline.partitions import Day, run_key_of
from pipeline.settings import Settings
from pipeline.stores.ledger import Ledger, PartitionRecord, note_of
from pipeline.stores.tables import Lake

LAST = Day.parse("2026-03-01")
KNOWN_AT = datetime(2026, 3, 2, 3, tzinfo=UTC)
USER = "customer-4711-jane"
HOSTILE = "<script>alert(1)</script>"
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
)


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out)

    def found(self, check: str) -> dict:
        """The finding of a check that is not `ok`, else the first of it."""
        own = [finding for finding in self.json["findings"] if finding["check"] == check]
        return next((finding for finding in own if finding["severity"] != "ok"), own[0])


@pytest.fixture
def interest(settings: Settings) -> Callable[..., Answer]:
    """Runs `interest ...` on the test's home."""

    def run(*arguments: str) -> Answer:
        result = CliRunner().invoke(app, ["--home", str(settings.home), *arguments])
        return Answer(result.exit_code, result.stdout, result.stderr)

    return run


def events_of(day: Day) -> pl.DataFrame:
    """Thirty events of three users; from day to day interest moves from X to Y."""
    age = (LAST.date - day.date).days
    rows = [
        {
            "event_id": f"{day.key}-{user}-{n}",
            "user_id": user,
            "item_id": "x1" if n < age / 4 else "y1",
            "event_type": "view",
            "event_time": day.start + timedelta(hours=n),
            "value": None,
            "ingested_at": day.end,
        }
        for user in (USER, "u2", "u3")
        for n in range(10)
    ]
    return pl.DataFrame(rows, schema=BEHAVIOR_EVENTS.schema)


def record_of(table: str, day: Day, counts: dict[str, int], details: dict | None = None) -> PartitionRecord:
    return PartitionRecord(
        table_name=table,
        partition=day.key,
        state="published",
        counts=counts,
        details=details or {},
        run_key=run_key_of("behavior_logs", day.start),
        written_at=KNOWN_AT,
    )


def publish(lake: Lake, ledger: Ledger, day: Day) -> None:
    """One day of the log, as a step writes it: rows, note and line."""
    refused = pl.DataFrame(
        [
            {
                "source_file": f"{day.key}/a.parquet",
                "source_row": 0,
                "reason": HOSTILE,
                "detail": HOSTILE,
                "raw": "{}",
                "contract_version": "1",
                "created": KNOWN_AT,
            }
        ],
        schema=QUARANTINED_EVENTS.schema,
    )
    counts = {"read": 32, "published": 30, "quarantined": 1, "duplicates": 1}
    lines = [
        (QUARANTINED_EVENTS, refused, record_of(QUARANTINED_EVENTS.name, day, {"rows": 1})),
        (
            BEHAVIOR_EVENTS,
            events_of(day),
            record_of(BEHAVIOR_EVENTS.name, day, counts, {"reasons": {HOSTILE: 1}, "warnings": ["volume is low"]}),
        ),
    ]
    for table, rows, record in lines:
        committed = lake.replace(table, day, rows, note_of([record]))
        ledger.record_partition(record.model_copy(update={"version": committed.version}))


def windows_of(day: Day, mix: dict[str, float], events: int) -> pl.DataFrame:
    row = {
        "user_id": USER,
        "categories": list(mix),
        **{f"counts_{days}d": list(mix.values()) for days in (7, 30, 180)},
        "top_categories": list(mix),
        "entropy": 0.5,
        "num_events": events,
        "active_days": 3,
        "days_since_previous": None,
        "event_timestamp": day.as_of,
        "created": KNOWN_AT,
    }
    return pl.DataFrame([row], schema=INTEREST_WINDOWS.schema)


@pytest.fixture(scope="session")
def written_home(tmp_path_factory) -> Path:
    """Eight days of logs with a hostile row each, the catalogue, one user whose interest moved. Not to be changed."""
    settings = Settings.load(home=tmp_path_factory.mktemp("written"))
    lake, ledger = Lake.of(settings), Ledger(settings.ledger_url)
    ledger.migrate()
    items = [
        {"item_id": item, "title": HOSTILE, "categories": [category], "valid_from": datetime(2020, 1, 1, tzinfo=UTC)}
        for item, category in (("x1", HOSTILE), ("y1", "Y"))
    ]
    lake.overwrite(ITEMS, pl.DataFrame(items, schema=ITEMS.schema))
    for age in (39, 32, 25, 18, 11, 4, 1, 0):
        publish(lake, ledger, LAST.plus(-age))
    for age, mix, events in ((39, {HOSTILE: 9.0, "Y": 1.0}, 30), (0, {HOSTILE: 1.0, "Y": 9.0}, 80)):
        day = LAST.plus(-age)
        record = record_of(INTEREST_WINDOWS.name, day, {"rows": 1})
        committed = lake.replace(INTEREST_WINDOWS, day, windows_of(day, mix, events), note_of([record]))
        ledger.record_partition(record.model_copy(update={"version": committed.version}))
    ledger.engine.dispose()
    return settings.home


@pytest.fixture
def filled(written_home: Path, settings: Settings) -> Lake:
    """The written home, copied, so that a test may break it."""
    shutil.copytree(written_home, settings.home, dirs_exist_ok=True)
    return Lake.of(settings)


@pytest.fixture
def in_chromium() -> Callable[..., str]:
    """Opens a page in the real browser."""

    def opened(page: Path, profile: Path, *arguments: str) -> str:
        """Open a page in a headless browser with a profile of its own; returns what it prints."""
        browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if browser is None:
            pytest.fail("The pages are tested in a browser. Install Chromium (Debian: apt-get install -y chromium).")
        command = [browser, *QUIET, f"--user-data-dir={profile}", *arguments, page.resolve().as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    return opened
