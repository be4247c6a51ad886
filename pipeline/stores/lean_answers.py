"""An answer of the lean way: it keeps the bytes of the store and makes of them what is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from pipeline.stores import quick_feast  # noqa: F401  isort: skip

from feast import ValueType
from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import feast_value_type_to_python_type
from google.protobuf.timestamp_pb2 import Timestamp

from pipeline.stores.encoding import decode_numbers, joined_numbers

PLAIN = {
    ValueType.STRING: "string_val", ValueType.INT32: "int32_val", ValueType.INT64: "int64_val",
    ValueType.DOUBLE: "double_val", ValueType.FLOAT: "float_val", ValueType.BOOL: "bool_val",
}
NUMBERS = {
    ValueType.INT32_LIST: ("int32_list_val", pl.Int32), ValueType.INT64_LIST: ("int64_list_val", pl.Int64),
    ValueType.DOUBLE_LIST: ("double_list_val", pl.Float64), ValueType.FLOAT_LIST: ("float_list_val", pl.Float32),
}
"""Where a `Value` keeps what needs no translation, and lists of numbers, which are decoded together."""

TOGETHER_FROM = 5
"""Lists of numbers from which decoding them together costs less than a message for each."""


class Column(NamedTuple):
    """One feature of the answer, in the order of the entities that were asked for; None where there is no row."""

    name: str
    value_type: ValueType
    values: Sequence[bytes | None]
    event_times: Sequence[int | None]


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

    def to_arrow(self, include_event_timestamps: bool = False) -> pa.Table:
        """As Feast's, the same types included; lists of numbers become no Python objects on the way."""
        if include_event_timestamps or any(_is_strange_to_arrow(column.value_type) for column in self.columns):
            return super().to_arrow(include_event_timestamps)
        columns = {self.join_key: pa.array(self.ids)}
        return pa.table(columns | {column.name: _in_arrow(column.values, column.value_type) for column in self.columns})

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
                event_timestamps=[timestamp(moment) for moment in column.event_times],
            )
        return response


def timestamp(microseconds: int | None) -> Timestamp:
    """Feast's moment; that of nothing where there is no row."""
    stamp = Timestamp()
    if microseconds is not None:
        stamp.FromMicroseconds(microseconds)
    return stamp


def numbers_of(values: Sequence[bytes | None], value_type: ValueType) -> list[list | None]:
    """Lists of numbers; None for a missing one. Raises KeyError for a type that is not in `NUMBERS`."""
    field, inner = NUMBERS[value_type]
    if len(values) >= TOGETHER_FROM:
        return decode_numbers(values, inner)
    return [getattr(Value.FromString(value), field).val[:] if value else None for value in values]


def _decoded(values: Sequence[bytes | None], value_type: ValueType) -> list[Any]:
    if field := PLAIN.get(value_type):
        return [getattr(Value.FromString(value), field) if value else None for value in values]
    if value_type == ValueType.STRING_LIST:
        return [list(Value.FromString(value).string_list_val.val) if value else None for value in values]
    if value_type in NUMBERS:
        return numbers_of(values, value_type)
    return [feast_value_type_to_python_type(Value.FromString(value or b""), value_type) for value in values]


def _is_strange_to_arrow(value_type: ValueType) -> bool:
    """Whether Feast translates such values once more for Arrow: names of things, and sets."""
    return "UUID" in value_type.name or value_type.name.endswith("_SET")


def _in_arrow(values: Sequence[bytes | None], value_type: ValueType) -> pa.Array:
    """What Arrow makes of `_decoded`: whole numbers are int64 to it and others double, however Feast declares them."""
    if value_type in NUMBERS and len(values) >= TOGETHER_FROM:
        numbers, places = joined_numbers(values, NUMBERS[value_type][1])
        if len(numbers):                                        # else Arrow knows no type
            wide = numbers.astype(np.int64 if numbers.dtype.kind in "iu" else np.float64, copy=False)
            missing = pa.array([not value for value in values])
            return pa.ListArray.from_arrays(pa.array(places, pa.int32()), pa.array(wide), mask=missing)
    return pa.array(_decoded(values, value_type))
