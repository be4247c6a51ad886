"""How far apart two values of a column are: sequences by edit distance, vectors by cosine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl


def edit_distance(one: Sequence, other: Sequence) -> float:
    """Levenshtein distance over the length of the longer one: 0 for equal, 1 for nothing in common."""
    if not one and not other:
        return 0.0
    before = list(range(len(other) + 1))
    for row, left in enumerate(one, start=1):
        current = [row]
        for column, right in enumerate(other, start=1):
            current.append(min(before[column] + 1, current[-1] + 1, before[column - 1] + (left != right)))
        before = current
    return before[-1] / max(len(one), len(other))


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """-1 to 1; 0 where a vector has no length or the two are of different dimensions."""
    if len(one) != len(other):
        return 0.0
    left, right = np.asarray(one, np.float64), np.asarray(other, np.float64)
    scale = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right) / scale if scale else 0.0


def is_vector(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.List) and dtype.inner.is_float()


def is_sequence(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.List) and not dtype.inner.is_float()
