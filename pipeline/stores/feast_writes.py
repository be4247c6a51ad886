"""
What comes in by Feast's own ways (its HTTP server, `write_to_online_store`, `materialize`) is checked before it counts.

Feast has no place for a missing element inside an array: on its way in, a missing number has become NaN, a missing text
the empty one, and a missing time one before all times. Nobody who reads the array could tell. The platform's own push
refuses the missing element itself (`pipeline.stores.feature_store`); here its traces are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite

from feast.protos.feast.types.Value_pb2 import Value

from pipeline.errors import ContractViolation

FLOATS = ("float_val", "double_val")
FLOAT_LISTS = ("float_list_val", "double_list_val")
TEXT_LISTS = ("string_list_val",)
TIME_LISTS = ("unix_timestamp_list_val",)
LAST_SECOND = 253_402_300_800
"""The end of the year 9999: what lies beyond is no time."""


def refuse_distorted(view: str, rows: Iterable[Mapping[str, Value]]) -> None:
    """Raises ContractViolation, which names the features; then nothing may be written."""
    distorted = sorted({f"{name}: {fault}" for values in rows for name, v in values.items() if (fault := _fault_of(v))})
    if distorted:
        raise ContractViolation(f"{view} was not written, nothing changed online: {'; '.join(distorted)}.")


def _fault_of(value: Value) -> str:
    kind = value.WhichOneof("val")
    if kind in FLOATS:
        return "" if isfinite(getattr(value, kind)) else "NaN or infinite"
    if kind in FLOAT_LISTS:
        return "" if all(map(isfinite, getattr(value, kind).val)) else "missing, NaN or infinite inside an array"
    if kind in TEXT_LISTS:
        return "" if all(getattr(value, kind).val) else "missing or empty inside an array"
    if kind in TIME_LISTS:
        return "" if all(0 < second < LAST_SECOND for second in getattr(value, kind).val) else "missing inside an array"
    return ""
