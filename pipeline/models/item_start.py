"""
Where the item vectors start: what was had by the same people lies together before the first step.

A model with little time to train does not have to find that out one step at a time.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from pipeline.features.histories import FIRST_ITEM, Histories

SPARE = 16
"""Directions beyond those that are wanted, which make the last of these exact."""
ROUNDS = 4
FEW = 3.0
"""An item with so many events starts half as long as one with many."""


def co_occurrence_vectors(histories: Histories, num_items: int, dim: int, seed: int) -> np.ndarray:
    """float32 [num_items, dim]: the items' part of a truncated SVD of users by items, each row at most of length 1.

    The matrix is normalised by users and by items, D_u^-1/2 A D_i^-1/2, so that neither the busy nor the popular rule
    it (Halko, Martinsson, Tropp 2011 for the algorithm). Items without events get zeros.
    """
    real = histories.items >= FIRST_ITEM
    matrix = sparse.coo_matrix(
        (np.ones(int(real.sum()), dtype=np.float32), (histories.owners[real], histories.items[real])),
        shape=(histories.num_users, num_items),
    ).tocsr()
    matrix.data[:] = 1.0                                                       # had it, however often
    users = np.maximum(np.asarray(matrix.sum(axis=1)).ravel(), 1.0)
    counts = np.asarray(matrix.sum(axis=0)).ravel()                            # [num_items]
    matrix = sparse.diags(users**-0.5) @ matrix @ sparse.diags(np.maximum(counts, 1.0) ** -0.5)
    width = min(dim + SPARE, num_items, max(histories.num_users, 1))
    found = np.random.default_rng(seed).standard_normal((num_items, width))
    for _ in range(ROUNDS):
        found, _ = np.linalg.qr(matrix.T @ (matrix @ found))
    _, sizes, rotation = np.linalg.svd(matrix @ found, full_matrices=False)    # [width], [width, width]
    vectors = np.zeros((num_items, dim))
    kept = min(dim, len(sizes))
    vectors[:, :kept] = ((found @ rotation.T) * sizes)[:, :kept]
    lengths = np.linalg.norm(vectors, axis=1)
    vectors *= (counts / (counts + FEW) / np.maximum(lengths, 1e-9))[:, None]
    vectors[counts == 0] = 0.0
    return vectors.astype(np.float32)
