"""
Whitens text vectors, so that a dot product tells items apart: raw mean-pooled vectors all point the same way.

The transform is fitted once and kept. Its space id changes when the encoder or a single number of it changes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open

EPSILON = 1e-5


@dataclass(frozen=True)
class Whitening:
    """Subtract `mean`, project on the largest principal directions, give each the same variance."""

    encoder: str
    mean: np.ndarray
    """float32 [width]"""
    projection: np.ndarray
    """float32 [width, dim]"""

    @classmethod
    def fit(cls, vectors: np.ndarray, encoder: str, dim: int = 128) -> Whitening:
        """PCA whitening of `vectors` [items, width].

        A small catalogue cannot tell noise from meaning in its small directions: it gets at most half as many
        dimensions as it has items, and never a direction without variance.
        """
        mean = vectors.mean(axis=0, dtype=np.float64)
        centred = vectors.astype(np.float64) - mean
        variances, directions = np.linalg.eigh(centred.T @ centred / max(len(vectors) - 1, 1))
        largest = np.argsort(variances)[::-1][: max(min(dim, len(vectors) // 2), 1)]
        largest = largest[variances[largest] > max(variances.max(), EPSILON) * EPSILON]
        if len(largest) == 0:                                     # one text only: keep a direction, its value is 0
            largest = np.argsort(variances)[-1:]
        columns = directions[:, largest]
        signs = np.sign(columns[np.abs(columns).argmax(axis=0), np.arange(columns.shape[1])])
        scale = np.sqrt(np.maximum(variances[largest], EPSILON))
        # safetensors writes memory as it lies, so an array in Fortran order would be read back scrambled
        projection = np.ascontiguousarray(columns * signs / scale, dtype=np.float32)
        return cls(encoder, mean.astype(np.float32), projection)

    @property
    def dim(self) -> int:
        return self.projection.shape[1]

    @property
    def space_id(self) -> str:
        digest = hashlib.sha256(self.encoder.encode() + self.mean.tobytes() + self.projection.tobytes())
        return f"text-{digest.hexdigest()[:12]}"

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """float32 [items, width] -> float32 [items, dim] of unit length"""
        white = (vectors - self.mean) @ self.projection
        return white / np.maximum(np.linalg.norm(white, axis=1, keepdims=True), 1e-9)

    @classmethod
    def load(cls, path: Path) -> Whitening:
        with safe_open(path, framework="numpy") as file:
            return cls(file.metadata()["encoder"], file.get_tensor("mean"), file.get_tensor("projection"))
