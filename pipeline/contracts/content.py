"""
The name of a table's content: the same rows in the same order have the same hash, whatever file, library or machine.
"""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl


def content_hash(frame: pl.DataFrame) -> str:
    """64 hexadecimal digits over column names, types, nulls and values, in order. An empty list is not a null."""
    digest = hashlib.sha256(f"{frame.height}".encode())
    for series in frame.get_columns():
        digest.update(f"\0{series.name}\0{series.dtype}\0".encode())
        _add(digest, series)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, series: pl.Series) -> None:
    digest.update(np.packbits(series.is_null().to_numpy()).tobytes())
    present = series.drop_nulls()
    if isinstance(series.dtype, pl.List):
        digest.update(present.list.len().cast(pl.Int64).to_numpy().tobytes())
        _add(digest, present.explode(empty_as_null=False))
    elif series.dtype == pl.String:
        digest.update(present.str.len_bytes().cast(pl.Int64).to_numpy().tobytes())
        digest.update(_text(present))
    else:
        digest.update(np.ascontiguousarray(present.to_physical().to_numpy()).tobytes())


def _text(present: pl.Series) -> memoryview | bytes:
    """All texts, one after the other, as they lie in memory."""
    array = present.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, ends, data = array.buffers()
    if not len(array) or data is None:
        return b""
    bounds = np.frombuffer(ends, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    return memoryview(data)[bounds[0] : bounds[-1]]
