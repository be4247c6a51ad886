"""An answer of the lean way as the JSON that Feast's feature server writes, without its messages."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from pipeline.stores import quick_feast  # noqa: F401  isort: skip

from feast import ValueType
from feast.feature_server_utils import _timestamp_to_str, _value_to_native
from feast.protos.feast.types.Value_pb2 import Value

from pipeline.stores.lean_answers import NUMBERS, LeanResponse, numbers_of, timestamp

WHOLE = (ValueType.INT32_LIST, ValueType.INT64_LIST)
PRESENT, NOT_FOUND = "PRESENT", "NOT_FOUND"
_encode = msgspec.json.Encoder().encode


def as_json(response: LeanResponse) -> bytes:
    """What `feast.feature_server` answers for this response: the same values, written shorter."""
    present = [PRESENT] * len(response.ids)
    results = [{"values": response.ids, "statuses": present, "event_timestamps": [_moment(None)] * len(response.ids)}]
    for event_times, columns in itertools.groupby(response.columns, key=lambda column: column.event_times):
        moments = list(map(_moment, event_times))
        results += [
            {
                "values": _natives(column.values, column.value_type),
                "statuses": [NOT_FOUND if v is None else PRESENT for v in column.values]
                if None in column.values else present,
                "event_timestamps": moments,
            }
            for column in columns
        ]
    names = [response.join_key, *(column.name for column in response.columns)]
    return _encode({"results": results, "metadata": {"feature_names": names}})


def _natives(values: Sequence[bytes | None], value_type: ValueType) -> list[Any]:
    """Feast's JSON of each value, null where there is none."""
    if value_type in NUMBERS:
        lists = numbers_of(values, value_type)
        # A sum is finite only where all of its numbers are; JSON has no others, and Feast writes those as texts.
        if value_type in WHOLE or all(numbers is None or math.isfinite(sum(numbers)) for numbers in lists):
            return lists
    return [_value_to_native(Value.FromString(value)) if value else None for value in values]


@lru_cache(maxsize=4096)
def _moment(microseconds: int | None) -> str:
    return _timestamp_to_str(timestamp(microseconds))
