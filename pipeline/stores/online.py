"""
Feast's SQLite and Redis online stores behind the fence: one compare-and-set for each entity and view.

Values and keys are encoded as Feast does it, so everything of Feast reads them. Beside the values of an entity
stands its clock (`pipeline.stores.fence`). The comparison and the write are one transaction (SQLite) or one script
(Redis), so any number of processes may push at once. Every way in passes here: our pushes, Feast's `push`,
`write_to_online_store` and `materialize`, and its HTTP server.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pipeline.stores import quick_feast  # noqa: F401  isort: skip

from feast import Entity, FeatureView, RepoConfig
from feast.infra.key_encoding_utils import deserialize_entity_key, serialize_entity_key
from feast.infra.online_stores.helpers import (
    _mmh3,
    _redis_key_prefix,
    compute_table_id,
    compute_versioned_name,
)
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import Field
from redis.exceptions import RedisError

from pipeline.errors import EngineFailure
from pipeline.stores.encoding import EncodedRow
from pipeline.stores.feast_writes import refuse_distorted
from pipeline.stores.fence import FAR_PAST, Clock, is_newer, time_of
from pipeline.stores.online_erasure import without_erased

FeastRow = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
"""As Feast hands it over: entity, values by feature, event time, created."""

BUSY_TIMEOUT_S = 60.0
ROWS_A_TRANSACTION = 1000
KEYS_A_QUERY = 10_000
KEYS_A_SCAN = 1000
ROWS_A_SCRIPT = 50
"""Rows that one call of the Redis script compares and sets: a server does nothing else for so long."""


@dataclass(frozen=True)
class Fenced:
    """How many rows of a write passed the fence."""

    accepted: int = 0
    refused: int = 0

    def __add__(self, other: Fenced) -> Fenced:
        return Fenced(self.accepted + other.accepted, self.refused + other.refused)


@contextmanager
def _answering(failure: type[Exception]) -> Iterator[None]:
    """A read that fails is the store's fault, not the caller's: raises EngineFailure."""
    try:
        yield
    except failure as error:
        raise EngineFailure(
            f"The online store did not answer: {error}. Nothing is lost; ask again when it is up, "
            "or let `interest doctor` look."
        ) from error


class FencedSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):
    type: Literal["pipeline.stores.online.FencedSqliteOnlineStore"] = "pipeline.stores.online.FencedSqliteOnlineStore"
    home: str = ""
    stores: dict[str, Any] = Field(default_factory=dict)
    """Where tombstones lie (`pipeline.stores.online_erasure`); without them nobody counts as erased."""


class FencedSqliteOnlineStore(SqliteOnlineStore):
    """Feast's table for each view, and a table of clocks beside it. WAL, so reading goes on while others write."""

    _local: threading.local | None = None

    def _get_conn(self, config: RepoConfig) -> sqlite3.Connection:
        """A connection for each thread of each process: SQLite's may not be shared over a fork.

        A file that was taken away is not made again by whoever asks next: only `update` makes one, with its tables.
        A connection to a file that was put in place of an older one is opened anew, so a rebuilt store is seen at once.
        """
        path = Path(self._get_db_path(config))
        try:
            status = path.stat()
        except FileNotFoundError:
            raise sqlite3.OperationalError(f"{path} is missing; `interest online rebuild` makes it again") from None
        identity = os.getpid(), status.st_dev, status.st_ino
        if self._local is None:
            self._local = threading.local()
        if getattr(self._local, "identity", None) != identity:
            connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
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
        table, clocks = _tables(config, view)
        find = f"SELECT entity_key, event_us, known_us FROM {clocks} WHERE entity_key IN ({_marks(len(rows))})"
        set_clock = f"INSERT OR REPLACE INTO {clocks} (entity_key, event_us, known_us) VALUES (?, ?, ?)"
        write = (
            f"INSERT INTO {table} (entity_key, feature_name, value, event_ts, created_ts) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (entity_key, feature_name) DO UPDATE SET "
            "value = excluded.value, event_ts = excluded.event_ts, created_ts = excluded.created_ts"
        )
        # The write lock is held from before the comparison, so nobody writes between it and what follows from it.
        with _immediately(connection):
            standing = {key: Clock(*clock) for key, *clock in connection.execute(find, [row.key for row in rows])}
            accepted: dict[bytes, EncodedRow] = {}
            passed = 0
            for row in rows:
                if is_newer(row.clock, standing.get(row.key)):
                    standing[row.key], accepted[row.key] = row.clock, row
                    passed += 1
            connection.executemany(
                set_clock, [(row.key, row.clock.event_time, row.clock.known_at) for row in accepted.values()]
            )
            connection.executemany(
                write,
                [
                    (key, name, value, clock.event_time // 1_000_000, clock.known_at // 1_000_000)
                    for key, values, clock in accepted.values()
                    for name, value in values.items()
                ],
            )
        return Fenced(passed, len(rows) - passed)

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: list[FeastRow], progress: Callable[[int], Any] | None
    ) -> None:
        refuse_distorted(table.name, (values for _, values, _, _ in data))
        self.write_fenced(config, table, _encoded(config, data))
        if progress:
            progress(len(data))

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Value] | None]]:
        """Values and event time (to the microsecond) of each entity, from one snapshot."""
        with _answering(sqlite3.Error):
            return self._read(config, table, entity_keys)

    def _read(
        self, config: RepoConfig, table: FeatureView, entity_keys: list[EntityKey]
    ) -> list[tuple[datetime | None, dict[str, Value] | None]]:
        connection, (values, clocks) = self._get_conn(config), _tables(config, table)
        keys = [_entity_key(config, entity) for entity in entity_keys]
        found: dict[bytes, tuple[datetime, dict[str, Value]]] = {}
        for start in range(0, len(keys), KEYS_A_QUERY):
            part = keys[start : start + KEYS_A_QUERY]
            rows = connection.execute(
                f"SELECT entity_key, event_us, feature_name, value FROM {clocks} JOIN {values} USING (entity_key) "
                f"WHERE entity_key IN ({_marks(len(part))}) ORDER BY entity_key",
                part,
            )
            for key, group in itertools.groupby(rows, key=lambda row: row[0]):
                served = list(group)
                features = {name: Value.FromString(value) for _, _, name, value in served}
                found[key] = (time_of(served[0][1]), features)
        return [found.get(key, (None, None)) for key in keys]

    def newest(self, config: RepoConfig, view: FeatureView) -> datetime | None:
        """The newest event time that is served of a view; None where nothing is."""
        _, clocks = _tables(config, view)
        with _answering(sqlite3.Error):
            newest = self._get_conn(config).execute(f"SELECT max(event_us) FROM {clocks}").fetchone()[0]
        return time_of(newest) if newest is not None else None

    def keys(self, config: RepoConfig, view: FeatureView) -> Iterator[EntityKey]:
        """Every entity that has a row in a view."""
        _, clocks = _tables(config, view)
        with _answering(sqlite3.Error):
            for (key,) in self._get_conn(config).execute(f"SELECT entity_key FROM {clocks}"):
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
        super().update(config, tables_to_delete, tables_to_keep, entities_to_delete, entities_to_keep, partial)
        connection = self._get_conn(config)
        for view in tables_to_keep:
            clocks = _tables(config, view)[1]
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {clocks} "
                "(entity_key BLOB PRIMARY KEY, event_us INTEGER NOT NULL, known_us INTEGER NOT NULL) WITHOUT ROWID"
            )
            # A look-up asks for the newest row of a view, which must not become slower with every user.
            connection.execute(f'CREATE INDEX IF NOT EXISTS {clocks[:-1]}_newest" ON {clocks} (event_us)')
        for view in tables_to_delete:
            connection.execute(f"DROP TABLE IF EXISTS {_tables(config, view)[1]}")

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        if Path(self._get_db_path(config)).exists():
            self._get_conn(config).close()
        self._local = None
        for ending in ("", "-wal", "-shm"):
            Path(self._get_db_path(config) + ending).unlink(missing_ok=True)


def _tables(config: RepoConfig, view: FeatureView) -> tuple[str, str]:
    """The quoted names of a view's values and clocks."""
    name = compute_table_id(config.project, view, config.registry.enable_online_feature_view_versioning)
    return tuple('"' + whole.replace('"', '""') + '"' for whole in (name, f"{name}_clocks"))


def _marks(count: int) -> str:
    return ",".join("?" * count)


def _entity_key(config: RepoConfig, entity: EntityKey) -> bytes:
    return serialize_entity_key(entity, entity_key_serialization_version=config.entity_key_serialization_version)


def _encoded(config: RepoConfig, rows: Sequence[FeastRow]) -> list[EncodedRow]:
    return [
        EncodedRow(
            _entity_key(config, entity),
            {name: value.SerializeToString() for name, value in values.items()},
            Clock.of(event_time, created),
        )
        for entity, values, event_time, created in rows
    ]


@contextmanager
def _immediately(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that takes the write lock at its start: what was compared cannot change before it is written."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


class FencedRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    type: Literal["pipeline.stores.online.FencedRedisOnlineStore"] = "pipeline.stores.online.FencedRedisOnlineStore"
    home: str = ""
    stores: dict[str, Any] = Field(default_factory=dict)


# KEYS: the entities' hashes. ARGV: seconds to live (0: for ever), the number of fields, the fields' names, the clock's
# first, then for each hash its values in that order. Clocks are digits of one length, so they compare as text.
PASS_FENCE = """
local count = tonumber(ARGV[2])
local passed = 0
for row, key in ipairs(KEYS) do
  local first = 2 + count * row
  local standing = redis.call('HGET', key, ARGV[3])
  if not standing or standing < ARGV[first + 1] then
    local pairs = {}
    for field = 1, count do
      pairs[2 * field - 1] = ARGV[2 + field]
      pairs[2 * field] = ARGV[first + field]
    end
    redis.call('HSET', key, unpack(pairs))
    if ARGV[1] ~= '0' then redis.call('EXPIRE', key, ARGV[1]) end
    passed = passed + 1
  end
end
return passed
"""

KEEP_LARGEST = """
local standing = redis.call('GET', KEYS[1])
if not standing or standing < ARGV[1] then redis.call('SET', KEYS[1], ARGV[1]) end
return 1
"""


class FencedRedisOnlineStore(RedisOnlineStore):
    """Feast's hash for each entity with one more field a view, its clock. One script call a row, pipelined."""

    def write_fenced(self, config: RepoConfig, view: FeatureView, rows: Sequence[EncodedRow]) -> Fenced:
        """Write the rows that are newer than what is served, each as a whole. Raises EngineFailure."""
        given, rows = len(rows), without_erased(config, rows)
        if not rows:
            return Fenced(refused=given)
        client, name = self._get_client(config.online_store), _view_name(config, view)
        pass_fence, keep_largest = client.register_script(PASS_FENCE), client.register_script(KEEP_LARGEST)
        features = list(rows[0].values)
        fields = [f"_clock:{name}", f"_ts:{name}", *(_mmh3(f"{name}:{feature}") for feature in features)]
        shared = [config.online_store.key_ttl_seconds or 0, len(fields), *fields]
        project, clock_values = config.project.encode(), lru_cache(_clock_values)
        accepted, done = 0, 0
        try:
            for start in range(0, len(rows), ROWS_A_TRANSACTION):
                part = rows[start : start + ROWS_A_TRANSACTION]
                with client.pipeline(transaction=False) as pipe:
                    for few in _in_batches(iter(part), ROWS_A_SCRIPT):
                        own = [[*clock_values(row.clock), *map(row.values.__getitem__, features)] for row in few]
                        keys = [row.key + project for row in few]
                        pass_fence(keys=keys, args=[*shared, *itertools.chain.from_iterable(own)], client=pipe)
                    passed = pipe.execute()
                accepted, done = accepted + sum(passed), done + len(part)
                newest = max(row.clock for row in part)
                keep_largest(keys=[_newest_key(config, name)], args=[newest.digits()])
        except RedisError as error:
            raise EngineFailure(
                f"The online store refused to write {view.name}: {error}. {done} of {len(rows)} rows were done; "
                "push again, what was written is not written twice."
            ) from error
        return Fenced(accepted, given - accepted)

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: list[FeastRow], progress: Callable[[int], Any] | None
    ) -> None:
        refuse_distorted(table.name, (values for _, values, _, _ in data))
        self.write_fenced(config, table, _encoded(config, data))
        if progress:
            progress(len(data))

    async def online_write_batch_async(
        self, config: RepoConfig, table: FeatureView, data: list[FeastRow], progress: Callable[[int], Any] | None
    ) -> None:
        await asyncio.to_thread(self.online_write_batch, config, table, data, progress)

    def _read_hash_fields(self, config: RepoConfig, commands: list) -> list:
        with _answering(RedisError):
            return super()._read_hash_fields(config, commands)

    def newest(self, config: RepoConfig, view: FeatureView) -> datetime | None:
        """The newest event time that was pushed of a view; None where nothing was."""
        with _answering(RedisError):
            digits = self._get_client(config.online_store).get(_newest_key(config, _view_name(config, view)))
        return time_of(int(digits[:20]) - FAR_PAST) if digits else None

    def keys(self, config: RepoConfig, view: FeatureView) -> Iterator[EntityKey]:
        """Every entity that has a row in a view. Walks all keys of the server, without holding it up."""
        client, clock, project = self._get_client(config.online_store), _clock_of(config, view), config.project.encode()
        with _answering(RedisError):
            for part in _in_batches(client.scan_iter(_all_keys(config, view), count=KEYS_A_SCAN), KEYS_A_SCAN):
                with client.pipeline(transaction=False) as pipe:
                    for key in part:
                        pipe.hexists(key, clock)
                    present = pipe.execute()
                for key, is_there in zip(part, present, strict=True):
                    if is_there:
                        serialized = key.removesuffix(project)
                        yield deserialize_entity_key(serialized, config.entity_key_serialization_version)

    def delete_table(self, config: RepoConfig, table: FeatureView) -> None:
        super().delete_table(config, table)
        client, name = self._get_client(config.online_store), _view_name(config, table)
        for key in client.scan_iter(_all_keys(config, table), count=KEYS_A_SCAN):
            client.hdel(key, f"_clock:{name}")
        client.delete(_newest_key(config, name))


def _all_keys(config: RepoConfig, view: FeatureView) -> bytes:
    """The pattern of the hashes of a view's kind of entity, and of nothing else that the server holds."""
    return _redis_key_prefix(view.join_keys) + b"*" + config.project.encode()


def _clock_of(config: RepoConfig, view: FeatureView) -> str:
    return f"_clock:{_view_name(config, view)}"


def _in_batches(values: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while part := list(itertools.islice(values, size)):
        yield part


def _view_name(config: RepoConfig, view: FeatureView) -> str:
    return compute_versioned_name(view, config.registry.enable_online_feature_view_versioning)


def _newest_key(config: RepoConfig, view_name: str) -> str:
    return f"newest:{config.project}:{view_name}"


def _clock_values(clock: Clock) -> tuple[str, bytes]:
    """What Redis keeps of a clock: ours to compare, Feast's to read."""
    stamp = Timestamp()
    stamp.FromMicroseconds(clock.event_time)
    return clock.digits(), stamp.SerializeToString()
