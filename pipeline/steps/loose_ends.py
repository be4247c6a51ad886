"""
What a crash may have left, looked for by `interest doctor --strict`: anything that a second run has not put in order.

It reads only. Each check yields nothing where there is nothing to tell.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime

from filelock import FileLock, Timeout

from pipeline.contracts import TABLES
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.steps.findings import Finding, error, fine
from pipeline.steps.ledger_news import unheard
from pipeline.stores.ledger import Ledger
from pipeline.stores.model_versions import MODELS
from pipeline.stores.registered import registered_versions
from pipeline.stores.tables import Lake

DRAFTS = ("*.tmp", ".*.tmp", "*.draft", ".draft*", "*.parquet#*")
"""Names of what is being written: the platform's own drafts, and those of Delta's writer."""
LOCKS = ("locks/*.lock", "mlflow/locks/*.lock")


def loose_ends(settings: Settings, known_at: datetime) -> Iterator[Finding]:
    """What is unfinished, whatever its age; one line that says so where nothing is."""
    found = [finding for check in _CHECKS for finding in check(settings, known_at)]
    yield from found or [fine("loose ends", "none: every write, lock, run and decision has come to its end")]


def _half_written(settings: Settings, _known_at: datetime) -> Iterator[Finding]:
    home = settings.place("")
    for path in sorted({path for pattern in DRAFTS for path in home.rglob(pattern)}):
        shown = str(path.relative_to(home))
        yield error("half-written", shown, "nothing that is being written", "Run its step again, or remove it.")
    for place in sorted(home.glob("models/*@*/checkpoints/epoch-*")):
        if not (place / "manifest.json").is_file():
            shown = str(place.relative_to(home))
            yield error("checkpoint", f"{shown} has no manifest", "whole checkpoints", "Remove it; training passes it.")


def _locks(settings: Settings, _known_at: datetime) -> Iterator[Finding]:
    """The system lets a dead process's lock go, so a lock that is held is held by somebody alive."""
    for path in sorted(path for pattern in LOCKS for path in settings.place("").glob(pattern)):
        try:
            with FileLock(path, timeout=0):
                pass
        except Timeout:
            what = "held by a process that runs"
            yield error(f"lock {path.stem}", what, "no step at work", "Wait for it; `fuser` names one that hangs.")


def _ledger(settings: Settings, _known_at: datetime) -> Iterator[Finding]:
    """Days that failed, and commits of which the ledger has not heard."""
    lake, ledger = Lake.of(settings), Ledger(settings.ledger_url)
    found, newest_schema = ledger.revisions()
    if found != newest_schema:
        return  # The check-up tells of it itself.
    for table in TABLES:
        lines = {line.partition: line for line in ledger.partitions(table.name)}
        for partition, line in lines.items():
            if line.state == "failed":
                yield error(
                    f"{table.name} {partition}", "failed", "a day that ended well", "docs/runbooks/failed_day.md"
                )
        for partition, news in unheard(lake, ledger, table).items():
            told = lines[partition].version if partition in lines else "no line"
            yield error(
                f"{table.name} {partition}",
                f"the table has a commit of version {news.version}, the ledger {told}",
                "a ledger that is as new as its tables",
                "Run the day again, or `interest doctor --repair`.",
            )


def _models(settings: Settings, _known_at: datetime) -> Iterator[Finding]:
    """Trainings that stopped on the way to the registry, and aliases that did not follow a decision."""
    known = {}
    for model in MODELS:
        entries = registered_versions(settings, [model])
        known |= {entry.version.run_key: entry for entry in entries}
        promoted = [entry for entry in entries if entry.version.status == "promoted"]
        if promoted and "champion" not in promoted[-1].aliases:
            name = promoted[-1].version.name
            yield error(f"champion of {model}", f"not {name}", f"{name}, the newest promoted", "Run its gate again.")
        for entry in entries:
            if entry.version.status == "candidate":
                name = entry.version.name
                yield error(name, "not decided upon", "promoted or held", "Run its gate: `interest train`.")
    for run in sorted(settings.place("models").glob("*@*")):
        if run.is_dir() and run.name not in known:
            yield error(f"run {run.name}", "begun and not registered", "a version", "Train it again; it goes on.")


def _erasures(settings: Settings, _known_at: datetime) -> Iterator[Finding]:
    for file in sorted(settings.place("receipts").glob("*.json")):
        facts = json.loads(file.read_text(encoding="utf-8"))
        left = [place["name"] for place in facts["places"] if not place["is_done"] or place["remaining"]]
        if left or not facts["verified_at"]:
            shown = ", ".join(left[:3]) or "not verified"
            yield error(f"erasure {file.stem}", f"unfinished: {shown}", "every place emptied", "Ask for it again.")


def _parity(settings: Settings, known_at: datetime) -> Iterator[Finding]:
    """What is served beside the tables, in today's sample of each view."""
    # Imported here: Feast takes seconds to load.
    from pipeline.steps.online_parity import compare_online

    for view in compare_online(Day.of(known_at), settings):
        if view.differing:
            facts = f"{view.mismatched} mismatched, {view.missing} missing, {view.extra} extra of {view.sampled}"
            yield error(f"parity {view.view}", facts, "what the tables say", "`interest online rebuild`")


_CHECKS: tuple[Callable[[Settings, datetime], Iterator[Finding]], ...] = (
    _half_written,
    _locks,
    _ledger,
    _models,
    _erasures,
    _parity,
)
