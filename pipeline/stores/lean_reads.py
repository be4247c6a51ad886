"""
`get_online_features` without the detour: bytes out of the store, Python values into the answer.

Feast turns every value into a message, copies it into the response, and turns it into Python when it is asked for.
That costs more than the store does. Here the response keeps the bytes and makes of them what is asked for: a
dictionary, or Feast's own response message. A request that needs more of Feast (on-demand views, several entities,
values of its own) goes Feast's way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import polars as pl

from pipeline.stores import quick_feast  # noqa: F401  isort: skip

from feast import FeatureService, FeatureView, RepoConfig, ValueType
from feast.infra.registry.base_registry import BaseRegistry
from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import feast_value_type_to_python_type
from feast.utils import _get_cached_request_context
from google.protobuf.timestamp_pb2 import Timestamp

from pipeline.stores.encoding import decode_numbers, encode_keys

PLAIN = {
    ValueType.STRING: "string_val", ValueType.INT32: "int32_val", ValueType.INT64: "int64_val",
    ValueType.DOUBLE: "double_val", ValueType.FLOAT: "float_val", ValueType.BOOL: "bool_val",
}
NUMBERS = {
    ValueType.INT32_LIST: pl.Int32, ValueType.INT64_LIST: pl.Int64, ValueType.DOUBLE_LIST: pl.Float64,
    ValueType.FLOAT_LIST: pl.Float32,
}
"""Where a `Value` keeps what needs no translation, and lists that are decoded together."""


Stored = tuple[int | bytes | None, ...]
"""A row as it lies in the store: event time in microseconds since 1970, then the values of the features asked for."""


class Column(NamedTuple):
    """One feature of the answer, in the order of the entities that were asked for; None where there is no row."""

    name: str
    value_type: ValueType
    values: Sequence[bytes | None]
    event_times: Sequence[int | None]


class LeanReads:
    """Goes before Feast's class in the bases of an online store that has `read_stored`."""

    def read_stored(
        self, config: RepoConfig, wanted: Sequence[tuple[FeatureView, Sequence[str]]], keys: Sequence[bytes]
    ) -> list[dict[bytes, Stored]]:
        """For each view, the rows of those entities that have one. Raises EngineFailure."""
        raise NotImplementedError

    def get_online_features(
        self,
        config: RepoConfig,
        features: list[str] | FeatureService,
        entity_rows: Any,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> OnlineResponse:
        """As Feast's; the same answer, also where it is a message."""
        context = _get_cached_request_context(registry, project, features, full_feature_names)
        asked = _ids_of_one_entity(entity_rows, context)
        if asked is None or include_feature_view_version_metadata or getattr(features, "precompute_online", False):
            return super().get_online_features(
                config, features, entity_rows, registry, project, full_feature_names,
                include_feature_view_version_metadata,
            )
        (join_key, ids), wanted = asked, context[5]
        keys = encode_keys(ids, join_key)
        stored = self.read_stored(config, wanted, list(dict.fromkeys(keys)))
        columns = []
        for (view, names), rows in zip(wanted, stored, strict=True):
            nothing = (None,) * (1 + len(names))
            event_times, *values = zip(*[rows.get(key, nothing) for key in keys], strict=True)
            types = {field.name: field.dtype.to_value_type() for field in view.features}
            prefix = f"{view.projection.name_to_use()}__" if full_feature_names else ""
            for name, column in zip(names, values, strict=True):
                columns.append(Column(prefix + name, types[name], column, event_times))
        return LeanResponse(join_key, ids, columns)

    async def get_online_features_async(self, *asked: Any, **named: Any) -> OnlineResponse:
        """The same, for servers that must not wait: Feast's own asks the Redis store this way."""
        return await asyncio.to_thread(self.get_online_features, *asked, **named)


class LeanResponse(OnlineResponse):
    """Feast's response, made when and as far as it is asked for."""

    def __init__(self, join_key: str, ids: list[str], columns: list[Column]):
        self.join_key, self.ids, self.columns = join_key, ids, columns
        self._feature_types = {column.name: column.value_type for column in columns}

    def to_dict(self, include_event_timestamps: bool = False) -> dict[str, list[Any]]:
        if include_event_timestamps:
            return super().to_dict(include_event_timestamps)
        return {self.join_key: list(self.ids)} | {
            column.name: _decoded(column.values, column.value_type) for column in self.columns
        }

    @cached_property
    def proto(self) -> GetOnlineFeaturesResponse:
        response = GetOnlineFeaturesResponse()
        response.metadata.feature_names.val.extend([self.join_key, *(column.name for column in self.columns)])
        response.results.add(
            values=[Value(string_val=user) for user in self.ids],
            statuses=[FieldStatus.PRESENT] * len(self.ids),
            event_timestamps=[Timestamp()] * len(self.ids),
        )
        for column in self.columns:
            response.results.add(
                values=[Value.FromString(value or b"") for value in column.values],
                statuses=[FieldStatus.NOT_FOUND if v is None else FieldStatus.PRESENT for v in column.values],
                event_timestamps=[_timestamp(moment) for moment in column.event_times],
            )
        return response


def _ids_of_one_entity(entity_rows: Any, context: tuple) -> tuple[str, list[str]] | None:
    """The join key and the ids, where a request is about one kind of entity named by texts; else None."""
    _, on_demand, _, _, _, wanted, _, request_data, without_entity = context
    join_keys = {join_key for view, _ in wanted for join_key in view.join_keys}
    if on_demand or request_data or without_entity or len(join_keys) != 1:
        return None
    [join_key] = join_keys
    if any(view.projection.join_key_map or getattr(view.projection, "version_tag", None) for view, _ in wanted):
        return None
    if isinstance(entity_rows, list):
        if any(set(row) != {join_key} for row in entity_rows):
            return None
        ids = [row[join_key] for row in entity_rows]
    else:
        if set(entity_rows) != {join_key} or not isinstance(entity_rows[join_key], Sequence):
            return None
        ids = list(entity_rows[join_key])
    return (join_key, ids) if ids and all(type(value) is str for value in ids) else None


def _decoded(values: Sequence[bytes | None], value_type: ValueType) -> list[Any]:
    if field := PLAIN.get(value_type):
        return [getattr(Value.FromString(value), field) if value else None for value in values]
    if value_type == ValueType.STRING_LIST:
        return [list(Value.FromString(value).string_list_val.val) if value else None for value in values]
    if inner := NUMBERS.get(value_type):
        return decode_numbers(values, inner)
    return [feast_value_type_to_python_type(Value.FromString(value or b""), value_type) for value in values]


def _timestamp(microseconds: int | None) -> Timestamp:
    stamp = Timestamp()
    if microseconds is not None:
        stamp.FromMicroseconds(microseconds)
    return stamp
