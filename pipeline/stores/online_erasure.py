"""
Erased users and the online store: no row of theirs passes the fence, and what is served of one can be taken out.

Feast hands the store its own configuration only, so where the tombstones lie stands there (`home` and `stores`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from pipeline.stores import quick_feast  # noqa: F401  isort: skip

import polars as pl
from feast import RepoConfig
from feast.infra.key_encoding_utils import deserialize_entity_key, serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from redis.exceptions import RedisError

from pipeline.errors import EngineFailure
from pipeline.settings import Settings, Stores
from pipeline.stores.encoding import EncodedRow
from pipeline.stores.tombstones import USER, Tombstones


def described_tombstones(settings: Settings) -> dict:
    """The part of an online store's configuration that says where the tombstones lie."""
    given = settings.stores
    stores = {"lake": given.lake, "ledger": given.ledger, "storage_options": dict(given.storage_options)}
    return {"home": str(settings.place("")), "stores": stores}


def without_erased(config: RepoConfig, rows: Sequence[EncodedRow]) -> Sequence[EncodedRow]:
    """The rows of users who were not erased, in their order. Raises EngineFailure, BadSetting."""
    home = getattr(config.online_store, "home", "")
    tombstones = _tombstones(home, Stores(**config.online_store.stores).model_dump_json()) if home else None
    if tombstones is None or not rows or not tombstones.hashes():
        return rows
    keep = ~tombstones.erased(pl.Series([_user_of(config, row.key) for row in rows], dtype=pl.String))
    return [row for row, kept in zip(rows, keep, strict=True) if kept]


def forget_online(settings: Settings, user_id: str) -> int:
    """Delete all that is served of a user, in every view; how many views served something. Safe to repeat.

    Raises EngineFailure when the store does not answer. Worth a retry.
    """
    from pipeline.stores.feature_store import open_feature_store

    store = open_feature_store(settings)
    key = EntityKey(join_keys=[USER], entity_values=[Value(string_val=user_id)])
    version = store.config.entity_key_serialization_version
    serialized = serialize_entity_key(key, entity_key_serialization_version=version)
    if settings.online.type == "redis":
        client = store.provider.online_store._get_client(store.config.online_store)
        try:
            fields = client.hkeys(serialized + store.config.project.encode())
            client.delete(serialized + store.config.project.encode())
        except RedisError as error:
            raise EngineFailure(f"The online store did not answer: {error}. Nothing was deleted; try again.") from error
        return sum(1 for field in fields if field.startswith(b"_clock:"))
    return _forget_in_sqlite(settings.online_path, serialized)


def hashes_online(settings: Settings, tombstones: Tombstones) -> list[str]:
    """The keyed hash of every user of whom something is served. Raises EngineFailure."""
    from pipeline.stores.feature_store import keys_of_views
    from pipeline.stores.served_rows import served_keys

    views = [view for view, key in keys_of_views(settings).items() if key == USER]
    users = {user for view in views for user in served_keys(settings, view)}
    return [tombstones.hash_of(user) for user in users]


def _forget_in_sqlite(path: Path, key: bytes) -> int:
    """Rows go, and so does what SQLite leaves of them in free pages and in the log of writes."""
    if not path.is_file():
        return 0
    connection = sqlite3.connect(path, timeout=60.0, isolation_level=None)
    try:
        connection.execute("PRAGMA secure_delete=ON")
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        views = 0
        for table in tables:
            quoted = '"' + table.replace('"', '""') + '"'
            columns = {row[1] for row in connection.execute(f"PRAGMA table_info({quoted})")}
            if "entity_key" in columns:
                deleted = connection.execute(f"DELETE FROM {quoted} WHERE entity_key = ?", (key,)).rowcount
                views += deleted > 0 and table.endswith("_rows")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return views
    except sqlite3.Error as error:
        raise EngineFailure(f"The online store could not forget: {error}. Run it again; it is safe to.") from error
    finally:
        connection.close()


def _user_of(config: RepoConfig, key: bytes) -> str | None:
    entity = deserialize_entity_key(key, config.entity_key_serialization_version)
    return entity.entity_values[0].string_val if list(entity.join_keys) == [USER] else None


@lru_cache(maxsize=4)
def _tombstones(home: str, stores: str) -> Tombstones:
    """With the keys of this process's settings, and the places of the store's configuration."""
    return Tombstones.of(Settings.load(home=home, stores=Stores.model_validate_json(stores)))
