"""
One at a time, on one machine: a lock file in the home folder, let go by the system when its holder dies.

Over several machines the scheduler does the same: the Dag whose step takes a lock runs one partition at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from pipeline.errors import EngineFailure
from pipeline.settings import Settings


@contextmanager
def alone(settings: Settings, name: str, patience_s: float = 900.0) -> Iterator[None]:
    """Wait until no other process is inside `alone(settings, name)`, then go in. Raises EngineFailure."""
    path = settings.place("locks") / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=patience_s)
    except Timeout as error:
        raise EngineFailure(
            f"Another process has held {path} for {patience_s:.0f} seconds. Nothing was written; "
            "run the step again when that process has ended."
        ) from error
    try:
        yield
    finally:
        lock.release()
