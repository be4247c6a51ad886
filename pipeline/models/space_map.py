"""
From one embedding space into another by a rotation: the orthogonal map that brings the vectors of the same users
closest together (Schönemann 1966, orthogonal Procrustes).

A rotation changes no angle between users, so whatever a consumer found in the new space it finds after the map, too.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

NEIGHBOURS = 10
MATRIX = "matrix"


@dataclass(frozen=True)
class MapQuality:
    """How well mapped vectors agree with the older model's own, on users that the map was not fitted on."""

    fitted_users: int
    users: int
    """held out"""
    cosine: float
    """mean between a user's mapped vector and the one of the older model, in [-1, 1]"""
    r2: float
    """share of the older vectors' variance that the mapped ones explain; at most 1"""
    overlap: float
    """mean share of a user's `NEIGHBOURS` nearest held-out users that stay the same, in [0, 1]"""

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def fit_map(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """The matrix [new dim, old dim] with orthonormal rows or columns that brings `new` closest to `old`.

    Args:
        new: [users, new dim], unit vectors of one model.
        old: [users, old dim], of the same users in the same order.
    """
    left, _, right = np.linalg.svd(new.astype(np.float64).T @ old.astype(np.float64), full_matrices=False)
    return (left @ right).astype(np.float32)


def apply_map(vectors: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """float32 [users, old dim], unit length; a vector that the map sends to zero stays zero."""
    mapped = vectors @ matrix
    length = np.linalg.norm(mapped, axis=1, keepdims=True)
    return (mapped / np.where(length > 0, length, 1.0)).astype(np.float32)


def measure_map(matrix: np.ndarray, new: np.ndarray, old: np.ndarray, fitted_users: int) -> MapQuality:
    """The quality on held-out users, `new` and `old` as for `fit_map`. NaN where there are too few of them."""
    users = len(new)
    if users < 2:
        return MapQuality(fitted_users, users, float("nan"), float("nan"), float("nan"))
    mapped = apply_map(new, matrix)
    spread = float(((old - old.mean(axis=0)) ** 2).sum())
    left = float(((mapped - old) ** 2).sum())
    count = min(NEIGHBOURS, users - 1)
    ours, theirs = _nearest(mapped, count), _nearest(old, count)
    same = [len(np.intersect1d(a, b)) / count for a, b in zip(ours, theirs, strict=True)]
    return MapQuality(
        fitted_users=fitted_users,
        users=users,
        cosine=float((mapped * old).sum(axis=1).mean()),
        r2=1.0 - left / spread if spread > 0 else float("nan"),
        overlap=float(np.mean(same)),
    )


def save_map(matrix: np.ndarray, path: Path, **facts: str) -> None:
    """Write the matrix as safetensors, with the two spaces' ids."""
    save_file({MATRIX: np.ascontiguousarray(matrix)}, path, metadata=facts)


def load_map(path: Path) -> np.ndarray:
    return load_file(path)[MATRIX]


def _nearest(vectors: np.ndarray, count: int) -> np.ndarray:
    """[users, count]: the users with the greatest inner product, without the user; ties by position."""
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    return np.argsort(-likeness, axis=1, kind="stable")[:, :count]
