"""
The short way of a look-up over HTTP, in front of Feast's feature server.

Feast's server spends about two milliseconds of processor on a request: its routing, four changes of thread, a message
for each value. A plain request of a few entities is answered here at once, in the server's own thread, by the same
store object and with the same JSON. Whatever is not plain goes to Feast's server as it came: other paths, servers that
check their callers or are measured by Feast, requests that are wrong, features that are not read the lean way, and
whatever fails here, so that errors are Feast's own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, NamedTuple

from pipeline.stores import quick_feast  # noqa: F401  isort: skip

from feast import FeatureService, FeatureStore
from feast.permissions.security_manager import get_security_manager

from pipeline.stores.lean_answers import LeanResponse
from pipeline.stores.lean_json import as_json
from pipeline.stores.lean_reads import LeanReads, plan_of

PATH = "/get-online-features"
FEW = 100
"""Entities up to which an answer is made in the server's own thread; it answers nobody else meanwhile."""
PLAIN = {"entities", "features", "feature_service", "full_feature_names"}

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Asked(NamedTuple):
    """A plain request."""

    features: list[str] | str
    """Names of features, or the name of a service."""
    join_key: str
    ids: list[str]
    full_names: bool


class LeanLookups:
    """An ASGI application: Feast's, with the short way before it. `LeanProtocol` takes the few to it earlier still."""

    def __init__(self, feasts: App, store: FeatureStore):
        self.feasts, self.store = feasts, store
        self._services: dict[str, FeatureService] = {}
        self._services_of: object = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if not self._is_look_up(scope):
            return await self.feasts(scope, receive, send)
        came = [await receive()]
        while came[-1].get("more_body"):
            came.append(await receive())
        asked = _asked(b"".join(message.get("body", b"") for message in came))
        answer = None
        if asked is not None:
            is_few = len(asked.ids) <= FEW
            answer = self._answer(asked) if is_few else await asyncio.to_thread(self._answer, asked)
        if answer is None:
            return await self.feasts(scope, _again(came, receive), send)
        headers = [(b"content-length", b"%d" % len(answer)), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def takes(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a POST to `PATH` with these headers may be answered here, by what it asks for."""
        return (
            get_security_manager() is None
            and self.store.config.feature_server is None
            and isinstance(self.store.provider.online_store, LeanReads)
            and _is_json(headers)
        )

    def answer_now(self, body: bytes) -> bytes | None:
        """The JSON of a plain request of few entities that `takes` lets pass; None where it must go on."""
        asked = _asked(body)
        return self._answer(asked) if asked is not None and len(asked.ids) <= FEW else None

    def _is_look_up(self, scope: Message) -> bool:
        return (
            scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "POST"
            and not scope["query_string"] and self.takes(scope["headers"])
        )

    def _answer(self, asked: Asked) -> bytes | None:
        """The JSON; None where Feast must answer."""
        store = self.store
        try:
            features = self._service(asked.features) if isinstance(asked.features, str) else asked.features
            plan = plan_of(store.registry, store.project, features, asked.full_names)
            if plan is None or plan.join_key != asked.join_key:
                return None
            response = store.get_online_features(features, {asked.join_key: asked.ids}, asked.full_names)
            return as_json(response) if isinstance(response, LeanResponse) else None
        except Exception:                                           # Feast's server meets it again, and says so
            return None

    def _service(self, name: str) -> FeatureService:
        """A service as the registry last read it; Feast makes it of a message at every request."""
        registry = self.store.registry
        read_at = registry.cached_registry_proto_created
        if read_at != self._services_of or not registry.is_cache_valid():
            self._services, self._services_of = {name: self.store.get_feature_service(name, allow_cache=True)}, read_at
        elif name not in self._services:
            self._services[name] = self.store.get_feature_service(name, allow_cache=True)
        return self._services[name]


def _is_json(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    said = next((value for name, value in headers if name == b"content-type"), b"")
    return said.partition(b";")[0].rstrip() == b"application/json"


def _asked(body: bytes) -> Asked | None:
    """What a body asks for; None where it is not plain."""
    try:
        asked = json.loads(body)
    except ValueError:
        return None
    if type(asked) is not dict or not asked.keys() <= PLAIN or type(entities := asked.get("entities")) is not dict:
        return None
    service, features = asked.get("feature_service"), asked.get("features", [])
    full_names = asked.get("full_feature_names", False)
    if not (service is None or type(service) is str) or not _are_texts(features) or type(full_names) is not bool:
        return None
    if len(entities) != 1 or not (service or features):
        return None
    [(join_key, ids)] = entities.items()
    return Asked(service or features, join_key, ids, full_names) if ids and _are_texts(ids) else None


def _are_texts(values: object) -> bool:
    return type(values) is list and all(type(value) is str for value in values)


def _again(came: list[Message], receive: Receive) -> Receive:
    """What was received, once more, then what comes."""
    waiting = iter(came)

    async def next_one() -> Message:
        message = next(waiting, None)
        return message if message is not None else await receive()

    return next_one
