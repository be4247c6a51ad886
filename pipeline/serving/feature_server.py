"""
Feast's feature server, with the short way before it.

It checks callers and answers as `feast serve` does. Where look-ups are kept, both ways ask the store that keeps them.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from datetime import datetime

from pipeline.stores import quick_feast  # noqa: F401  isort: skip

from feast import FeatureStore
from feast.feature_server import FeastServeApplication
from feast.permissions.server.utils import (
    ServerType,
    init_auth_manager,
    init_security_manager,
    str_to_auth_manager_type,
)
from gunicorn.arbiter import Arbiter

from pipeline.serving.fair_workers import FairWorker, Seats
from pipeline.serving.kept_lookups import KeepingFeatureStore
from pipeline.serving.lean_lookups import LeanLookups
from pipeline.settings import Settings
from pipeline.stores.feature_store import open_feature_store

REGISTRY_SECONDS = 30
"""Between two readings of the registry, off the way of answers: sooner than what was read becomes too old for them."""


class FeatureServer(FeastServeApplication):
    """Processes that share a port and its connections."""

    def __init__(self, store: FeatureStore, host: str, port: int, workers: int):
        self._seats = Seats(workers)
        options = {"bind": f"{host}:{port}", "workers": workers, "accesslog": None, "keepalive": 30}
        super().__init__(store, registry_ttl_sec=REGISTRY_SECONDS, **options)

    def load_config(self) -> None:
        super().load_config()
        self.cfg.set("worker_class", FairWorker)
        self.cfg.set("pre_fork", self._seat)
        self.cfg.set("child_exit", self._unseat)
        self.cfg.set("post_worker_init", _spare_what_stays)

    def load(self) -> LeanLookups:
        return LeanLookups(self._app, self._store)

    def _seat(self, _arbiter: Arbiter, worker: FairWorker) -> None:
        worker.seat = self._seats.take(worker.age)

    def _unseat(self, _arbiter: Arbiter, worker: FairWorker) -> None:
        self._seats.leave(worker.age)


def _spare_what_stays(_worker: FairWorker) -> None:
    """What is there at the start stays: the garbage collector need not look at it in the middle of an answer."""
    gc.collect()
    gc.freeze()


def serve(store: FeatureStore, host: str, port: int, workers: int) -> None:
    """Serve a store until the process is told to end. Callers are checked as the store's configuration says."""
    auth = store.config.auth_config
    kind = str_to_auth_manager_type(auth.type)
    init_security_manager(auth_type=kind, fs=store)
    init_auth_manager(auth_type=kind, server_type=ServerType.REST, auth_config=auth)
    FeatureServer(store, host, port, workers).run()


def serve_features(settings: Settings, clock: Callable[[], datetime]) -> None:
    """Serve what these settings serve until the process is told to end."""
    store = KeepingFeatureStore(settings, clock) if settings.lookups.log else open_feature_store(settings)
    serve(store, settings.airflow.host, settings.ports.feast, settings.online.workers)
