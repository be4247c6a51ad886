"""
Where Redis is, as `online.url` says it in Feast's way: `host:port[,host:port...][,name=value...]`.

A server that takes connections and is silent would keep a caller for ever, so there is an end to waiting, unless the
address names another: `redis.internal:6379,socket_timeout=2`.
"""

from __future__ import annotations

import json
from typing import Any

PORT = 6379
PATIENCE_S = {"socket_connect_timeout": 5.0, "socket_timeout": 10.0}
AS_WRITTEN = ("username", "password")
"""Options that are text, also where they look like a number."""


def redis_address(url: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The servers (host, port), and the options for a client of redis-py."""
    parts = [part.strip() for part in url.split(",")]
    places = [part.partition(":") for part in parts if "=" not in part]
    given = dict(part.split("=", 1) for part in parts if "=" in part)
    options = {name: text if name in AS_WRITTEN else _value(text) for name, text in given.items()}
    return [{"host": host, "port": int(port or PORT)} for host, _, port in places], PATIENCE_S | options


def _value(text: str) -> Any:
    """`true`, numbers and null as what they are, other text as it is."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
