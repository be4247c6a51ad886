"""
What the SQLite and the Redis online store share: Feast's stores behind one fence for each entity and view.

Values and keys are encoded as Feast does it, so everything of Feast reads them. Beside the values of an entity
stands its clock (`pipeline.stores.fence`). The comparison and the write are one transaction (SQLite) or one script
(Redis), so any number of processes may push at once. Every way in passes here: our pushes, Feast's `push`,
`write_to_online_store` and `materialize`, and its HTTP server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.stores import quick_feast  # noqa: F401  isort: skip

from feast import FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from pipeline.errors import EngineFailure
from pipeline.stores.encoding import EncodedRow
from pipeline.stores.feast_writes import refuse_distorted
from pipeline.stores.fence import Clock

FeastRow = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
"""As Feast hands it over: entity, values by feature, event time, created."""

ROWS_A_TRANSACTION = 1000


@dataclass(frozen=True)
class Fenced:
    """How many rows of a write passed the fence."""

    accepted: int = 0
    refused: int = 0

    def __add__(self, other: Fenced) -> Fenced:
        return Fenced(self.accepted + other.accepted, self.refused + other.refused)


@contextmanager
def answering(failure: type[Exception]) -> Iterator[None]:
    """A read that fails is the store's fault, not the caller's: raises EngineFailure."""
    try:
        yield
    except failure as error:
        raise EngineFailure(
            f"The online store did not answer: {error}. Nothing is lost; ask again when it is up, "
            "or let `interest doctor` look."
        ) from error


def entity_key(config: RepoConfig, entity: EntityKey) -> bytes:
    return serialize_entity_key(entity, entity_key_serialization_version=config.entity_key_serialization_version)


def _encoded(config: RepoConfig, rows: Sequence[FeastRow]) -> list[EncodedRow]:
    return [
        EncodedRow(
            entity_key(config, entity),
            {name: value.SerializeToString() for name, value in values.items()},
            Clock.of(event_time, created),
        )
        for entity, values, event_time, created in rows
    ]


class FencedWrites:
    """Sends what Feast writes through `write_fenced`. List it before Feast's class in the bases of a store."""

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
