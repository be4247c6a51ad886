"""
Keeps a share of the answered look-ups in the table `lookup_log`, off the way of the answer.

What is kept waits in memory and is written by a thread of its own, a batch at a time; a process that ends writes what
is left. A log that cannot be written costs nobody an answer: its rows are given up and counted in the process's log.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl

from pipeline.contracts import LOOKUP_LOG
from pipeline.observability import get_logger
from pipeline.settings import Settings
from pipeline.stores.tables import Lake

MOST_WAITING = 10_000
"""Rows beyond which new ones are given up rather than kept in memory."""

log = get_logger(__name__)

_logs: dict[tuple[str, str], LookupLog] = {}


class LookupLog:
    """The log of one process."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self._rows: list[dict[str, Any]] = []
        self._given_up = 0
        self._lock = threading.Lock()
        self._writer: threading.Thread | None = None

    @classmethod
    def of(cls, settings: Settings) -> LookupLog:
        """The same one for the same settings."""
        return _logs.setdefault((settings.lake_url, settings.lookups.model_dump_json()), cls(settings))

    def keep(
        self,
        user_id: str,
        service: str,
        now: datetime,
        views: Mapping[str, tuple[Sequence[str], datetime | None, Mapping[str, Any]]],
    ) -> None:
        """Keep an answer, if look-ups are kept and this one is in the share. Returns at once.

        Args:
            user_id: as it is at rest.
            views: by view, the features that were asked for, the event time (None: nothing served), and the values.
        """
        name = self.name_of(user_id, service, now)
        if name is None:
            return
        rows = [
            {
                "lookup_id": name,
                "user_id": user_id,
                "service": service,
                "view": view,
                "features": list(features),
                "served_at": served_at,
                "served": json.dumps(dict(values), default=_as_text) if served_at is not None else None,
                "event_timestamp": now,
                "created": now,
            }
            for view, (features, served_at, values) in views.items()
        ]
        with self._lock:
            if len(self._rows) + len(rows) > MOST_WAITING:
                self._given_up += len(rows)
            else:
                self._rows += rows
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_now_and_then, name="lookup-log", daemon=True)
                self._writer.start()
                atexit.register(self.flush)

    def name_of(self, user_id: str, service: str, now: datetime) -> str | None:
        """The id under which this look-up is kept; None where it is not."""
        wanted = self.settings.lookups
        if not wanted.log:
            return None
        name = hashlib.blake2b(f"{user_id}\0{service}\0{now.isoformat()}".encode(), digest_size=12).hexdigest()
        return name if int(name[:8], 16) < wanted.fraction * 2**32 else None

    def flush(self) -> int:
        """Write what waits; how many rows were written."""
        with self._lock:
            rows, self._rows = self._rows, []
            given_up, self._given_up = self._given_up, 0
        written = 0
        if rows:
            try:
                Lake.of(self.settings).append(LOOKUP_LOG, pl.DataFrame(rows, schema=LOOKUP_LOG.schema))
                written = len(rows)
            except Exception as error:  # The answers were given; the log must not take the server down.
                log.error("look-ups were not logged", rows=len(rows), why=f"{type(error).__name__}: {error}")
        if given_up:
            log.error("look-ups came faster than they are written", rows=given_up)
        return written

    def _write_now_and_then(self) -> None:
        while True:
            time.sleep(self.settings.lookups.flush_seconds)
            self.flush()


def _as_text(value: object) -> str:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    return str(value)
