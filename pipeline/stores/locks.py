"""
One at a time: a lock file in the home folder and, where the ledger is Postgres, a lock of that server for all machines.

Both are let go when their holder dies, by the system and by the server. The server's lock belongs to a connection that
stays open inside the block; a pooler between may pool sessions, but not transactions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout
from sqlalchemy import NullPool, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from pipeline.errors import EngineFailure
from pipeline.settings import Settings

LOCK_NOT_AVAILABLE = "55P03"
"""How Postgres says that it has waited long enough."""
AGAIN = "Nothing was written; run the step again."


@contextmanager
def alone(settings: Settings, name: str, patience_s: float = 900.0) -> Iterator[None]:
    """Wait until no other process is inside `alone(settings, name)`, then go in. Raises EngineFailure."""
    with _alone_on_this_machine(settings, name, patience_s):
        if make_url(settings.ledger_url).get_backend_name() != "postgresql":
            yield
            return
        with _alone_among_machines(settings.ledger_url, name, patience_s):
            yield


@contextmanager
def _alone_on_this_machine(settings: Settings, name: str, patience_s: float) -> Iterator[None]:
    path = settings.place("locks") / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=patience_s)
    except Timeout as error:
        raise _held(f"Another process has held {path}", patience_s) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _alone_among_machines(ledger_url: str, name: str, patience_s: float) -> Iterator[None]:
    engine = create_engine(ledger_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    try:
        connection = engine.connect()
    except DBAPIError as error:
        why = _in_short(error)
        raise EngineFailure(f"The ledger, which holds the lock {name!r}, cannot be reached: {why}. {AGAIN}") from error
    with connection:                                                # closing it lets the lock go
        try:
            connection.execute(text(f"SET lock_timeout = {max(int(patience_s * 1000), 1)}"))
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _key_of(name)})
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", "") != LOCK_NOT_AVAILABLE:
                why = _in_short(error)
                raise EngineFailure(f"The ledger did not give the lock {name!r}: {why}. {AGAIN}") from error
            by = f"A process, maybe of another machine, has held the ledger's lock {name!r}"
            raise _held(by, patience_s) from error
        yield


def _in_short(error: DBAPIError) -> str:
    return str(error.orig).partition("\n")[0]


def _key_of(name: str) -> int:
    """The same on every machine: what Postgres calls a lock by, 64 bits with a sign."""
    return int.from_bytes(hashlib.sha256(f"interest:{name}".encode()).digest()[:8], "big", signed=True)


def _held(by: str, patience_s: float) -> EngineFailure:
    return EngineFailure(
        f"{by} for {patience_s:.0f} seconds. Nothing was written; run the step again when that process has ended."
    )
