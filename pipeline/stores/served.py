"""
What the online store serves, asked without Feast: the newest event time of each view, in a fraction of a second.

It reads the clocks that the fence keeps (`pipeline.stores.online_sqlite`, `online_redis`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.errors import EngineFailure
from pipeline.settings import Settings
from pipeline.stores.fence import FAR_PAST, time_of
from pipeline.stores.redis_address import redis_address

PROJECT = "interest"


@dataclass(frozen=True)
class ServedView:
    """One view; `newest` is None where nothing was pushed, `entities` None where counting would take long."""

    view: str
    newest: datetime | None
    entities: int | None


def served_views(settings: Settings, views: Sequence[str]) -> list[ServedView]:
    """The named views, in their order. Raises EngineFailure when the store does not answer."""
    if settings.online.type == "redis":
        return _of_redis(settings, views)
    return _of_sqlite(settings, views)


def _of_sqlite(settings: Settings, views: Sequence[str]) -> list[ServedView]:
    path = settings.online_path
    if not path.is_file():
        return [ServedView(view, None, None) for view in views]
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10.0)
        try:
            return [_of_table(connection, view) for view in views]
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise EngineFailure(
            f"The online store at {path} cannot be read: {error}. `interest doctor` says what to do."
        ) from error


def _of_table(connection: sqlite3.Connection, view: str) -> ServedView:
    name = f"{PROJECT}_{view}_rows"
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchone():
        return ServedView(view, None, None)
    newest, entities = connection.execute(f'SELECT max(event_us), count(*) FROM "{name}"').fetchone()
    return ServedView(view, time_of(newest) if newest is not None else None, entities)


def _of_redis(settings: Settings, views: Sequence[str]) -> list[ServedView]:
    from redis import Redis
    from redis.exceptions import RedisError

    (server, *_), options = redis_address(settings.online.url)
    client = Redis(**server, **options)
    try:
        found = client.mget([f"newest:{PROJECT}:{view}" for view in views])
    except RedisError as error:
        where = "{host}:{port}".format(**server)
        raise EngineFailure(f"The online store at {where} did not answer: {error}. Try again.") from error
    finally:
        client.close()
    return [
        ServedView(view, time_of(int(digits[:20]) - FAR_PAST) if digits else None, None)
        for view, digits in zip(views, found, strict=True)
    ]
