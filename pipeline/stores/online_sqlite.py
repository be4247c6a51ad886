"""Feast's SQLite online store behind the fence (`pipeline.stores.online`), read from one snapshot."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pipeline.stores import quick_feast  # noqa: F401  isort: skip

from feast import Entity, FeatureView, RepoConfig
from feast.infra.key_encoding_utils import deserialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from pydantic import Field

from pipeline.errors import EngineFailure
from pipeline.stores.encoding import EncodedRow
from pipeline.stores.fence import Clock, is_newer, time_of
from pipeline.stores.lean_reads import LeanReads, Stored
from pipeline.stores.online import ROWS_A_TRANSACTION, Fenced, FencedWrites, answering, entity_key
from pipeline.stores.online_erasure import without_erased

BUSY_TIMEOUT_S = 60.0
KEYS_A_QUERY = 10_000
MAPPED_BYTES = 1 << 28
"""So much of the file is read where the system keeps it, without a call for each page."""


class FencedSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):
    type: Literal["pipeline.stores.online_sqlite.FencedSqliteOnlineStore"] = (
        "pipeline.stores.online_sqlite.FencedSqliteOnlineStore"
    )
    home: str = ""
    stores: dict[str, Any] = Field(default_factory=dict)
    """Where tombstones lie (`pipeline.stores.online_erasure`); without them nobody counts as erased."""


class FencedSqliteOnlineStore(LeanReads, FencedWrites, SqliteOnlineStore):
    """A table for each view, where Feast's store has a row for each value: a row for each entity, with its clock and
    a column for each feature that holds what Feast would (`Value`). So a row is written and found in one step.
    WAL, so reading goes on while others write.
    """

    _local: threading.local | None = None

    def _get_conn(self, config: RepoConfig) -> sqlite3.Connection:
        """A connection for each thread of each process: SQLite's may not be shared over a fork.

        A file that was taken away is not made again by whoever asks next: only `update` makes one, with its tables.
        A connection to a file that was put in place of an older one is opened anew, so a rebuilt store is seen at once.
        """
        path = self._get_db_path(config)
        try:
            status = os.stat(path)                                  # noqa: PTH116  at every look-up
        except FileNotFoundError:
            raise sqlite3.OperationalError(f"{path} is missing; `interest online rebuild` makes it again") from None
        identity = os.getpid(), status.st_dev, status.st_ino
        if self._local is None:
            self._local = threading.local()
        if getattr(self._local, "identity", None) != identity:
            connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(f"PRAGMA mmap_size={MAPPED_BYTES}")
            self._local.connection, self._local.identity = connection, identity
        return self._local.connection

    def write_fenced(self, config: RepoConfig, view: FeatureView, rows: Sequence[EncodedRow]) -> Fenced:
        """Write the rows that are newer than what is served, each as a whole. Raises EngineFailure."""
        given, rows = len(rows), without_erased(config, rows)
        result = Fenced(refused=given - len(rows))
        try:
            connection = self._get_conn(config)
            for start in range(0, len(rows), ROWS_A_TRANSACTION):
                result += self._write_together(connection, config, view, rows[start : start + ROWS_A_TRANSACTION])
        except sqlite3.Error as error:
            raise EngineFailure(
                f"The online store refused to write {view.name}: {error}. {result.accepted + result.refused} of "
                f"{given} rows were done; push again, what was written is not written twice."
            ) from error
        return result

    def _write_together(
        self, connection: sqlite3.Connection, config: RepoConfig, view: FeatureView, rows: Sequence[EncodedRow]
    ) -> Fenced:
        table, features = _table(config, view), list(rows[0].values)
        find = f"SELECT entity_key, event_us, known_us FROM {table} WHERE entity_key IN ({_marks(len(rows))})"
        columns = ["event_us", "known_us", *map(_quoted, features)]
        write = (
            f"INSERT INTO {table} (entity_key, {', '.join(columns)}) VALUES (?, {_marks(len(columns))}) "
            f"ON CONFLICT (entity_key) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in columns)}"
        )
        # The write lock is held from before the comparison, so nobody writes between it and what follows from it.
        with _transaction(connection, "IMMEDIATE"):
            standing = {key: Clock(*clock) for key, *clock in connection.execute(find, [row.key for row in rows])}
            accepted: dict[bytes, EncodedRow] = {}
            passed = 0
            for row in rows:
                if is_newer(row.clock, standing.get(row.key)):
                    standing[row.key], accepted[row.key] = row.clock, row
                    passed += 1
            connection.executemany(
                write,
                [
                    (key, clock.event_time, clock.known_at, *map(values.__getitem__, features))
                    for key, values, clock in accepted.values()
                ],
            )
        return Fenced(passed, len(rows) - passed)

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Value] | None]]:
        """Values and event time (to the microsecond) of each entity, from one snapshot."""
        keys = [entity_key(config, entity) for entity in entity_keys]
        names = requested_features or [feature.name for feature in table.features]
        [found] = self.read_stored(config, [(table, names)], keys)
        messages = {
            key: (time_of(event_time), {
                name: Value.FromString(value) for name, value in zip(names, values, strict=True) if value is not None
            })
            for key, (event_time, *values) in found.items()
        }
        return [messages.get(key, (None, None)) for key in keys]

    def read_stored(
        self, config: RepoConfig, wanted: Sequence[tuple[FeatureView, Sequence[str]]], keys: Sequence[bytes]
    ) -> list[dict[bytes, Stored]]:
        """See LeanReads; from one snapshot, which a single query is by itself."""
        with answering(sqlite3.Error):
            connection = self._get_conn(config)
            if len(wanted) == 1 and len(keys) <= KEYS_A_QUERY:
                [(view, names)] = wanted
                return [_read(connection, _table(config, view), names, keys)]
            with _transaction(connection, "DEFERRED"):
                return [_read(connection, _table(config, view), names, keys) for view, names in wanted]

    def newest(self, config: RepoConfig, view: FeatureView) -> datetime | None:
        """The newest event time that is served of a view; None where nothing is."""
        with answering(sqlite3.Error):
            newest = self._get_conn(config).execute(f"SELECT max(event_us) FROM {_table(config, view)}").fetchone()[0]
        return time_of(newest) if newest is not None else None

    def keys(self, config: RepoConfig, view: FeatureView) -> Iterator[EntityKey]:
        """Every entity that has a row in a view."""
        with answering(sqlite3.Error):
            for (key,) in self._get_conn(config).execute(f"SELECT entity_key FROM {_table(config, view)}"):
                yield deserialize_entity_key(key, config.entity_key_serialization_version)

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        path = Path(self._get_db_path(config))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        connection = self._get_conn(config)
        for view in tables_to_keep:
            _make_table(connection, _table(config, view), [feature.name for feature in view.features])
            for ending in ("", "_clocks"):                                  # where a store of an older layout has rows
                connection.execute(f"DROP TABLE IF EXISTS {_table(config, view, ending)}")
        for view in tables_to_delete:
            connection.execute(f"DROP TABLE IF EXISTS {_table(config, view)}")

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        if Path(self._get_db_path(config)).exists():
            self._get_conn(config).close()
        self._local = None
        for ending in ("", "-wal", "-shm"):
            Path(self._get_db_path(config) + ending).unlink(missing_ok=True)


def _table(config: RepoConfig, view: FeatureView, ending: str = "_rows") -> str:
    """The quoted name of a view's table."""
    name = compute_table_id(config.project, view, config.registry.enable_online_feature_view_versioning)
    return _quoted(name + ending)


def _make_table(connection: sqlite3.Connection, table: str, features: Sequence[str]) -> None:
    """Make it, or add the columns that it lacks."""
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {table} "
        "(entity_key BLOB PRIMARY KEY, event_us INTEGER NOT NULL, known_us INTEGER NOT NULL)"
    )
    # A look-up asks for the newest row of a view, which must not become slower with every user.
    connection.execute(f'CREATE INDEX IF NOT EXISTS {table[:-1]}_newest" ON {table} (event_us)')
    standing = {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}
    for name in features:
        if name not in standing:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {_quoted(name)} BLOB")


def _read(
    connection: sqlite3.Connection, table: str, names: Sequence[str], keys: Sequence[bytes]
) -> dict[bytes, Stored]:
    found: dict[bytes, Stored] = {}
    columns = ", ".join(["entity_key", "event_us", *map(_quoted, names)])
    for start in range(0, len(keys), KEYS_A_QUERY):
        part = keys[start : start + KEYS_A_QUERY]
        query = f"SELECT {columns} FROM {table} WHERE entity_key IN ({_marks(len(part))})"
        found |= {key: row for key, *row in connection.execute(query, part)}
    return found


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _marks(count: int) -> str:
    return ",".join("?" * count)


@contextmanager
def _transaction(connection: sqlite3.Connection, kind: Literal["IMMEDIATE", "DEFERRED"]) -> Iterator[None]:
    """IMMEDIATE takes the write lock at its start, so what was compared cannot change before it is written."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
