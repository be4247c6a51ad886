"""What the online store serves, as rows of the contract: for comparing it with the tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from pipeline.stores import quick_feast  # noqa: F401  isort: skip

import polars as pl
from feast.type_map import feast_value_type_to_python_type

from pipeline.contracts import Table
from pipeline.settings import Settings
from pipeline.stores.declarations import CREATED, EVENT_TIME
from pipeline.stores.feature_store import keys_of_views, open_feature_store

KEYS_AT_ONCE = 500


def served_rows(settings: Settings, table: Table, keys: Sequence[str]) -> pl.DataFrame:
    """The row that is served of each entity, in the contract's columns without `created`; none where nothing is.

    Read the way a consumer reads. Raises EngineFailure when the store does not answer.
    """
    store, key = open_feature_store(settings), keys_of_views(settings)[table.name]
    names = [name for name in table.names if name not in (key, EVENT_TIME, CREATED)]
    schema = {name: table.schema[name] for name in (key, *names, EVENT_TIME)}
    rows = []
    for start in range(0, len(keys), KEYS_AT_ONCE):
        part = list(keys[start : start + KEYS_AT_ONCE])
        answer = store.get_online_features([f"{table.name}:{name}" for name in names], [{key: k} for k in part]).proto
        served = dict(zip(answer.metadata.feature_names.val, answer.results, strict=True))
        for place, entity in enumerate(part):
            moment = served[names[0]].event_timestamps[place]
            if moment.ToMicroseconds():  # Feast says 1970 where it has nothing.
                values = [feast_value_type_to_python_type(served[name].values[place]) for name in names]
                rows.append((entity, *values, moment.ToDatetime(tzinfo=UTC)))
    return pl.DataFrame(rows, schema, orient="row")


def served_keys(settings: Settings, view: str) -> list[str]:
    """Every entity that the store holds a row of, in no order. Raises EngineFailure when it does not answer."""
    store = open_feature_store(settings)
    found = store.provider.online_store.keys(store.config, store.get_feature_view(view, allow_registry_cache=True))
    return [entity.entity_values[0].string_val for entity in found]
