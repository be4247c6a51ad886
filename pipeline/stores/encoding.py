"""
Feature rows as the bytes that Feast stores, a column at a time.

Feast builds one protobuf message a value, which is most of the time of a push. The messages are plain enough to be
laid out for a whole column: `Value` holds one field, a scalar or a list, and a list of numbers is packed. The bytes
are those of `serialize_entity_key` and of `Value.SerializeToString()`, but for lists of whole numbers, which may be
padded (`_varints`); all of Feast reads them.
(Wire format: protobuf.dev/programming-guides/encoding.)
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import polars as pl

from pipeline.stores.fence import Clock

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
STRING_KEY = 2
"""Feast's number for a text, in an entity key."""

SCALAR_FIELDS = {
    pl.String: (2, BYTES), pl.Int32: (3, VARINT), pl.Int64: (4, VARINT), pl.Float64: (5, FIXED64),
    pl.Float32: (6, FIXED32), pl.Boolean: (7, VARINT), pl.Datetime: (8, VARINT),
}
LIST_FIELDS = {pl.String: 12, pl.Int32: 13, pl.Int64: 14, pl.Float64: 15, pl.Float32: 16, pl.Boolean: 17,
               pl.Datetime: 18}
"""Fields of Feast's `Value` (feast/types/Value.proto), by the type of the column or of a list's elements."""

WIDEST_OF_ONE_SIZE = 5


class EncodedRow(NamedTuple):
    """A row of a view as an online store keeps it: the entity's key, the values by feature, the row's clock."""

    key: bytes
    values: dict[str, bytes]
    clock: Clock


def encode_rows(frame: pl.DataFrame, join_key: str, features: Sequence[str]) -> list[EncodedRow]:
    """The rows of a frame with the columns `event_timestamp` and `created` (UTC, microseconds)."""
    columns = [encode_values(frame[name]) for name in features]
    clocks = map(Clock, *(frame[name].dt.epoch("us").to_list() for name in ("event_timestamp", "created")))
    return [
        EncodedRow(key, dict(zip(features, values, strict=True)), clock)
        for key, clock, *values in zip(encode_keys(frame[join_key], join_key), clocks, *columns, strict=True)
    ]


def encode_keys(ids: Iterable[str], join_key: str) -> list[bytes]:
    """The entity keys (serialization version 3) of texts."""
    name = join_key.encode()
    head = struct.pack("<III", 1, STRING_KEY, len(name)) + name + struct.pack("<I", STRING_KEY)
    return [head + struct.pack("<I", len(value)) + value for value in map(str.encode, ids)]


def encode_values(values: pl.Series) -> list[bytes]:
    """One message a row; b"" for a missing value. Raises TypeError for a type that no contract uses."""
    dtype = values.dtype
    inner = dtype.inner if isinstance(dtype, pl.List) else dtype
    if inner.base_type() not in SCALAR_FIELDS:
        raise TypeError(f"{values.name}: {dtype} has no encoding. Add it beside the others in {__name__}.")
    if isinstance(inner, pl.Datetime):
        # Feast keeps whole seconds of a time; the row's own clock stands beside the values.
        values = _whole_seconds(values)
    if isinstance(dtype, pl.List):
        bodies, tag = _list_bodies(values, inner.base_type()), _varint(LIST_FIELDS[inner.base_type()] << 3 | BYTES)
        encoded = [tag + _varint(len(body)) + body for body in bodies]
    else:
        encoded = _scalars(values, *SCALAR_FIELDS[inner.base_type()])
    if values.null_count():
        return [b"" if missing else value for value, missing in zip(encoded, values.is_null(), strict=True)]
    return encoded


def decode_numbers(messages: Sequence[bytes | None], inner: type[pl.DataType]) -> list[list | None]:
    """Lists of numbers back from their messages; None for a missing one. `inner` is as in `joined_numbers`."""
    numbers, places = joined_numbers(messages, inner)
    flat = numbers.tolist()
    return [
        flat[start:end] if message else None
        for message, (start, end) in zip(messages, itertools.pairwise(places.tolist()), strict=True)
    ]


def joined_numbers(messages: Sequence[bytes | None], inner: type[pl.DataType]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of all lists, one after the other, back from the lists' messages. A missing list has none.

    Args:
        inner: type of the elements: Int32, Int64, Float32 or Float64.

    Returns:
        numbers [n], and int64 [rows + 1]: where each list begins among them, and the last one ends.
    """
    tag = len(_varint(LIST_FIELDS[inner] << 3 | BYTES))
    bodies = [message[_head_size(len(message), tag) :] if message else b"" for message in messages]
    joined, places = b"".join(bodies), np.cumsum([0, *map(len, bodies)])         # [rows + 1] where each body ends
    if inner in (pl.Float32, pl.Float64):
        kind = np.dtype("<f4" if inner == pl.Float32 else "<f8")
        return np.frombuffer(joined, dtype=kind), places // kind.itemsize
    return _numbers_of(joined, places)


@lru_cache(maxsize=4096)
def _head_size(size: int, tag: int) -> int:
    """Bytes before the packed elements of a list's message: its tag and length, their tag and length."""
    for length_sizes in range(2, 10):
        head = tag + 1 + length_sizes
        body = size - head
        inner = 1 + len(_varint(body)) + body
        if body > 0 and length_sizes == len(_varint(body)) + len(_varint(inner)):
            return head
    return size


def _whole_seconds(values: pl.Series) -> pl.Series:
    """Feast rounds a time of its own down, and one in a list towards 1970."""
    if isinstance(values.dtype, pl.List):
        return values.list.eval((pl.element().dt.epoch("us") / 1_000_000).cast(pl.Int64))
    return values.dt.epoch("us") // 1_000_000


def _scalars(values: pl.Series, field: int, wire: int) -> list[bytes]:
    """Tag and value. Repeated values (space ids, versions, cutoffs) are encoded once."""
    tag = _varint(field << 3 | wire)
    if wire in (FIXED32, FIXED64):
        raw, size = values.fill_null(0.0).to_numpy().tobytes(), 4 if wire == FIXED32 else 8
        return [tag + raw[start : start + size] for start in range(0, len(raw), size)]
    if wire == BYTES:
        made = {text: tag + _varint(len(text)) + text for text in values.drop_nulls().unique().cast(pl.Binary)}
        return [made.get(text, b"") for text in values.cast(pl.Binary).to_list()]
    made = {number: tag + _varint(number) for number in values.drop_nulls().unique().cast(pl.Int64)}
    return [made.get(number, b"") for number in values.cast(pl.Int64).to_list()]


def _list_bodies(values: pl.Series, inner: type[pl.DataType]) -> list[bytes]:
    """What stands inside a list's message; b"" for an empty list."""
    lengths = values.list.len().fill_null(0).to_numpy().astype(np.int64)
    flat = values.explode(keep_nulls=False, empty_as_null=False)
    if inner == pl.String:
        return _texts(flat, lengths)
    if inner in (pl.Float32, pl.Float64):
        size = 4 if inner == pl.Float32 else 8
        return [_packed(part) for part in _cut(flat.to_numpy().tobytes(), lengths * size)]
    content, sizes = _varints(flat.cast(pl.Int64).to_numpy())
    ends = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    rows = np.concatenate([[0], np.cumsum(lengths)])
    return [_packed(part) for part in _cut(content, np.diff(ends[rows]))]


def _packed(body: bytes) -> bytes:
    """The elements as one packed field; an empty list has no field."""
    return b"\x0a" + _varint(len(body)) + body if body else b""


def _texts(flat: pl.Series, lengths: np.ndarray) -> list[bytes]:
    """Texts are not packed: each one has its tag and length. A repeated text is laid out once."""
    made = {text: b"\x0a" + _varint(len(raw := text.encode())) + raw for text in flat.unique().to_list()}
    laid_out = list(map(made.__getitem__, flat.to_list()))
    ends = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    return [b"".join(laid_out[start:end]) for start, end in itertools.pairwise(ends)]


def _cut(content: bytes, sizes: np.ndarray) -> list[bytes]:
    ends = np.cumsum(sizes).tolist()
    return [content[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)] if ends else []


@lru_cache(maxsize=4096)
def _varint(number: int) -> bytes:
    number &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _varints(numbers: np.ndarray) -> tuple[bytes, np.ndarray]:
    """All numbers one after the other, and the size of each: uint8 [n]. Negative ones take ten bytes.

    Where the largest needs at most five bytes, all take as many as it does: protobuf reads zeros at the upper end of a
    number as well, and numbers of one size are laid out, and read back, without looking for where each one ends.
    """
    rest = numbers.astype(np.int64, copy=False).view(np.uint64)
    largest = int(rest.max(initial=0))
    widest = max(-(-largest.bit_length() // 7), 1)
    rest = rest.astype(np.uint32) if largest < 1 << 32 else rest                # half the memory to walk through
    groups = np.empty((len(rest), widest), dtype=np.uint8)                      # [n, bytes] seven bits each
    for position in range(widest):
        groups[:, position] = (rest >> rest.dtype.type(7 * position)).astype(np.uint8) | 0x80
    if widest <= WIDEST_OF_ONE_SIZE:
        groups[:, -1] &= 0x7F
        return groups.tobytes(), np.full(len(rest), widest, dtype=np.uint8)
    sizes = np.ones(len(rest), dtype=np.uint8)
    for position in range(1, widest):
        sizes += rest >= 1 << 7 * position
    groups[np.arange(len(rest)), sizes - 1] &= 0x7F
    kept = np.arange(widest) < np.arange(widest + 1)[:, None]                   # [size, bytes] bool
    return groups[kept[sizes]].tobytes(), sizes


def _numbers_of(varints: bytes, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Back from `_varints`, or from Feast: the numbers [n], and how many of them end before each place in the bytes."""
    raw = np.frombuffer(varints, dtype=np.uint8)
    is_last = raw < 0x80
    widest = int(np.argmax(is_last)) + 1 if len(raw) else 1
    if np.count_nonzero(is_last) * widest == len(raw) and is_last[widest - 1 :: widest].all():
        return _summed([raw[position::widest] & 0x7F for position in range(widest)]), places // widest
    ends = np.flatnonzero(is_last) + 1
    starts = np.concatenate([[0], ends[:-1]])
    sizes = ends - starts
    raw = np.concatenate([raw, np.zeros(10, dtype=np.uint8)])
    groups = [(raw[starts + position] & 0x7F) * (sizes > position) for position in range(int(sizes.max()))]
    return _summed(groups), np.searchsorted(ends, places, side="right")


def _summed(groups: list[np.ndarray]) -> np.ndarray:
    """Whole numbers from their groups of seven bits, the lowest first: each uint8 [n]."""
    kind = np.uint32 if len(groups) < 5 else np.uint64                          # half the memory to walk through
    numbers = groups[0].astype(kind)
    for position, group in enumerate(groups[1:], start=1):
        numbers |= group.astype(kind) << kind(7 * position)
    return numbers if kind == np.uint32 else numbers.view(np.int64)
