"""
The check-up of a home: what is there, what was expected, what to do about it.

It reads; only `repair` writes, and it repairs what can be made again from the truth: the ledger, and leftovers.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError

from pipeline.contracts import PARTITION_COLUMN, STORED_TABLES, TABLES
from pipeline.errors import EngineFailure, InterestError
from pipeline.settings import Settings
from pipeline.steps.findings import Diagnosis, Finding, error, fine, warning
from pipeline.steps.installation import check_folder, check_packages, check_python
from pipeline.steps.ledger_rebuild import disagreements, rebuild_ledger
from pipeline.steps.loose_ends import loose_ends
from pipeline.stores.ledger import Ledger
from pipeline.stores.model_versions import MODELS
from pipeline.stores.registered import registered_versions
from pipeline.stores.tables import Lake

LEFTOVERS = ("*.tmp", ".*.tmp", "*.draft", ".draft*")
AN_HOUR = 3600.0
REPAIR = "interest doctor --repair"


def check_home(settings: Settings, known_at: datetime, repair: bool = False, strict: bool = False) -> Diagnosis:
    """Look at everything in a home; with `repair`, mend the ledger and remove leftovers first.

    With `strict`, also at everything that a crash may have left, and nothing may be left: no warning either.
    """
    repaired = tuple(_repair(settings, known_at)) if repair else ()
    findings: list[Finding] = []
    for name, check in (_CHECKS | ({"loose ends": loose_ends} if strict else {})).items():
        try:
            findings += check(settings, known_at)
        except InterestError as trouble:
            findings.append(error(name, str(trouble), "an answer", "See the message."))
        except Exception as trouble:  # One broken part must not hide the others: that is what a check-up is for.
            findings.append(error(name, f"{type(trouble).__name__}: {trouble}", "an answer", "Look at the named part."))
    subject = str(settings.place(""))
    return Diagnosis(subject=subject, findings=tuple(findings), repaired=repaired, is_strict=strict)


def _tables(settings: Settings, _known_at: datetime) -> Iterator[Finding]:
    lake = Lake.of(settings)
    for table in STORED_TABLES:
        if not lake.exists(table):
            continue
        try:
            stored = lake.stored_schema(table)
        except Exception as trouble:  # Delta, Arrow and Polars each have errors of their own for a damaged table.
            yield error(
                f"table {table.name}",
                f"cannot be opened: {trouble}",
                "a readable Delta table",
                f"Restore {lake.path(table)} from a backup, or remove it and run its days again.",
            )
            continue
        expected = table.schema | ({PARTITION_COLUMN: stored.get(PARTITION_COLUMN)} if table.daily else {})
        wrong = [f"{n}: {stored.get(n) or 'absent'}, contract {t}" for n, t in expected.items() if stored.get(n) != t]
        extra = [name for name in stored if name not in expected]
        if wrong or extra:
            facts = "; ".join([*wrong, *(f"{name}: not in the contract" for name in extra)])
            yield error(
                f"table {table.name}",
                facts,
                f"contract {table.version}",
                "The contract changed after the table was written: restate its days with `interest backfill`.",
            )
        else:
            yield fine(f"table {table.name}", f"version {lake.version(table)}, as its contract says")


def _ledger(settings: Settings, _known_at: datetime) -> Iterator[Finding]:
    lake = Lake.of(settings)
    holds_rows = any(lake.exists(table) for table in TABLES)
    if damage := _damage_of(settings):
        yield error("ledger", f"damaged: {damage}", "a whole database", f"Rebuild it from the tables: {REPAIR}")
        return
    try:
        ledger = Ledger(settings.ledger_url)
        found, newest = ledger.revisions()
        if found == newest:
            differing = disagreements(lake, ledger)
    except (EngineFailure, DatabaseError, sqlite3.DatabaseError) as trouble:
        yield error("ledger", f"cannot be read: {trouble}", "a ledger", f"Rebuild it from the tables: {REPAIR}")
        return
    if found is None and not holds_rows:
        yield fine("ledger", "none yet, and no table either")
    elif found != newest:
        what = f"schema {found or 'none'}"
        yield error("ledger", what, f"schema {newest}", f"Migrate it, and fill it from the tables: {REPAIR}")
    elif differing:
        shown = "; ".join(f"{d.table} {d.partition}: ledger {d.in_ledger}, table {d.in_table}" for d in differing[:3])
        more = f"; and {len(differing) - 3} more" if len(differing) > 3 else ""
        yield error("ledger", shown + more, "the same in ledger and tables", _remedy(differing))
    else:
        yield fine("ledger", f"schema {found}; agrees with the tables")


def _remedy(differing: list) -> str:
    lost = sorted({d.table for d in differing if d.in_table == "0 rows"})
    again = f" Rows of {', '.join(lost)} are gone: run those days again with `interest backfill`." if lost else ""
    return f"Rebuild the ledger from the tables: {REPAIR}.{again}"


def _feast(settings: Settings, _known_at: datetime) -> Iterator[Finding]:
    registry = settings.feast_registry_url
    if "://" not in registry and not Path(registry).is_file():
        is_begun = settings.place("lake").is_dir()
        level = warning if is_begun else (lambda *_: fine("feast", "nothing is loaded yet, so nothing is applied"))
        yield level("feast", "no registry", "applied definitions", "`interest up` or `interest run` applies them.")
        return
    from pipeline.stores.feature_store import definitions_are_applied

    if definitions_are_applied(settings):
        yield fine("feast", "the definitions of feature_repo/ are applied")
    else:
        yield warning(
            "feast",
            "other definitions, or another online store, than the applied ones",
            "the definitions of feature_repo/",
            "`interest up` or `interest run` applies them.",
        )


def _registry(settings: Settings, _known_at: datetime) -> Iterator[Finding]:
    versions = registered_versions(settings, MODELS)
    yield fine("mlflow", f"{len(versions)} model versions at {_without_password(settings.mlflow_uri)}")


def _leftovers(settings: Settings, known_at: datetime) -> Iterator[Finding]:
    left = leftovers(settings, known_at)
    if left:
        shown = ", ".join(str(path.relative_to(settings.place(""))) for path in left[:5])
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        yield warning("leftovers", shown + more, "nothing that a crash left behind", f"Remove them: {REPAIR}")
    else:
        yield fine("leftovers", "none")


def leftovers(settings: Settings, known_at: datetime) -> list[Path]:
    """Drafts that nobody finished for an hour, and checkpoints of trainings that are registered."""
    home = settings.place("")
    drafts = {
        path for pattern in LEFTOVERS for path in home.rglob(pattern) if "lake" not in path.relative_to(home).parts[:1]
    }
    old = [path for path in drafts if known_at.timestamp() - path.lstat().st_mtime > AN_HOUR]
    done = {entry.version.run_key for entry in registered_versions(settings, MODELS)}
    kept = [path for path in home.glob("models/*@*/checkpoints") if path.parent.name in done]
    return sorted({*old, *kept})


def _repair(settings: Settings, known_at: datetime) -> Iterator[str]:
    if moved := _set_aside_if_broken(settings, known_at):
        yield f"moved the unreadable ledger to {moved}"
    before = list(_ledger(settings, known_at))
    if any(finding.severity == "error" for finding in before):
        rebuilt = rebuild_ledger(settings)
        bare = f", {rebuilt.without_note} of them counted from the rows" if rebuilt.without_note else ""
        yield f"rebuilt the ledger: {rebuilt.partitions} partitions{bare}, {rebuilt.promotions} promotions"
    for path in leftovers(settings, known_at):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        yield f"removed {path.relative_to(settings.place(''))}"


def _set_aside_if_broken(settings: Settings, known_at: datetime) -> Path | None:
    """A damaged SQLite file is kept for whoever wants to look at it; a new one takes its place."""
    if _damage_of(settings) is None:
        return None
    standing = Path(make_url(settings.ledger_url).database)
    aside = standing.with_name(f"{standing.name}.broken-{int(known_at.timestamp())}")
    for ending in ("", "-wal", "-shm"):
        file = Path(f"{standing}{ending}")
        if file.exists():
            file.replace(f"{aside}{ending}")
    return aside


def _damage_of(settings: Settings) -> str | None:
    """What is wrong with the bytes of an embedded ledger; None where they are whole, or there is no such file."""
    url = make_url(settings.ledger_url)
    if url.get_backend_name() != "sqlite" or not url.database or not Path(url.database).is_file():
        return None
    try:
        with contextlib.closing(sqlite3.connect(url.database, timeout=30.0)) as connection:
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.OperationalError as trouble:
        # A ledger that somebody else holds is not a broken one, and must not be moved away.
        return None if "locked" in str(trouble) or "busy" in str(trouble) else str(trouble)
    except sqlite3.DatabaseError as trouble:
        return str(trouble)
    return None if found == "ok" else str(found)


def _without_password(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)


_CHECKS: dict[str, Callable[[Settings, datetime], Iterator[Finding]]] = {
    "python": lambda *_: check_python(),
    "packages": lambda *_: check_packages(),
    "home": lambda settings, _: check_folder(settings),
    "tables": _tables,
    "ledger": _ledger,
    "feast": _feast,
    "mlflow": _registry,
    "leftovers": _leftovers,
}
