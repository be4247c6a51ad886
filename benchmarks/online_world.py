"""What the benchmarks of the online store share: rows of one shape, and a Feast store for them, fenced or stock."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.stores import quick_feast  # noqa: F401  isort: skip

from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Array, Float32, Int64, String

FLOATS = 64
INTEGERS = 200
ITEMS = 60_000
KNOWN_AT = datetime(2026, 3, 2, tzinfo=UTC)
CLASSES = {
    ("sqlite", True): "pipeline.stores.online_sqlite.FencedSqliteOnlineStore",
    ("redis", True): "pipeline.stores.online_redis.FencedRedisOnlineStore",
    ("sqlite", False): "sqlite",
    ("redis", False): "redis",
}


def profiles(rows: int, seed: int = 7) -> pl.DataFrame:
    """A vector and the last items of each user, as a push takes them."""
    drawn = np.random.default_rng(seed)
    vectors = drawn.normal(size=(rows, FLOATS)).astype(np.float32)
    items = drawn.integers(0, ITEMS, size=(rows, INTEGERS))
    return pl.DataFrame(
        {
            "user_id": [f"user-{number:08d}" for number in range(rows)],
            "vector": pl.Series(vectors).cast(pl.List(pl.Float32)),
            "items": pl.Series(items).cast(pl.List(pl.Int64)),
            "event_timestamp": pl.Series([KNOWN_AT - timedelta(seconds=1)] * rows, dtype=pl.Datetime("us", "UTC")),
            "created": pl.Series([KNOWN_AT] * rows, dtype=pl.Datetime("us", "UTC")),
        }
    )


def store_of(kind: str, address: str, fenced: bool) -> FeatureStore:
    """A Feast store with the view `profiles`, applied.

    Args:
        address: a folder; for Redis `folder host:port`.
    """
    folder, _, url = address.partition(" ")
    online = {"type": CLASSES[kind, fenced]}
    online |= {"connection_string": url} if kind == "redis" else {"path": f"{folder}/online.db"}
    config = RepoConfig(
        project="benchmark", provider="local", registry=f"{folder}/registry.db", online_store=online,
        offline_store={"type": "dask"}, entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    source = FileSource(
        name="profiles", path=f"{folder}/profiles.parquet", timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )
    profiles(1).write_parquet(f"{folder}/profiles.parquet")
    schema = [Field(name="user_id", dtype=String), Field(name="vector", dtype=Array(Float32)),
              Field(name="items", dtype=Array(Int64))]
    store.apply([user, source, FeatureView(name="profiles", entities=[user], schema=schema, source=source)])
    return store


@contextmanager
def address_of(kind: str, folder: str) -> Iterator[str]:
    """Where a store of this kind may live in `folder`; for Redis a server is started for the time."""
    if kind != "redis":
        yield folder
        return
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("redis-server is not installed (Debian: apt-get install redis-server).")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", folder]
    server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"{folder} 127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)
        Path(folder, "dump.rdb").unlink(missing_ok=True)
