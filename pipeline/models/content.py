"""
Content: the items nearest to what the user did last, in the space of the items' text.

It needs no other user and no event of an item, so it scores an item on its first day.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
from scipy import sparse

from pipeline.features.histories import FIRST_ITEM, Catalogue, Histories
from pipeline.models.baselines import log_popularity
from pipeline.models.recommender import mask_special_items


class Content:
    """Cosine of each item's vector with a mean of the last `events` items' vectors, newest weighing most.

    An event that is `half_life` events old weighs half. A user without a usable event gets popularity.
    """

    name = "content"

    def __init__(self, item_vectors: np.ndarray | None = None, events: int = 50, half_life: float = 8.0) -> None:
        """
        Args:
            item_vectors: [num_items, dim], for example whitened text; category shares when not given.
        """
        self.given, self.events, self.half_life = item_vectors, events, half_life

    def fit(self, histories: Histories, catalogue: Catalogue, as_of: datetime) -> Content:
        vectors = catalogue.category_matrix() if self.given is None else np.asarray(self.given, dtype=np.float32)
        if len(vectors) != catalogue.num_items:
            raise ValueError(
                f"{len(vectors)} item vectors for a catalogue of {catalogue.num_items}: give one a row of the "
                f"catalogue, padding and the unknown item included."
            )
        self.vectors = _unit(vectors)
        self.vectors[:FIRST_ITEM] = 0.0
        self.popularity = log_popularity(histories, catalogue.num_items)
        return self

    def scores(self, histories: Histories, as_of: datetime) -> np.ndarray:
        recent = histories.last(self.events)
        age = recent.offsets[1:][recent.owners] - 1 - np.arange(recent.num_events)  # 0: the newest
        weights = np.exp2(-age / self.half_life).astype(np.float32)
        shape = (recent.num_users, len(self.vectors))
        profile = sparse.csr_matrix((weights, recent.items, recent.offsets), shape=shape) @ self.vectors
        found = _unit(profile) @ self.vectors.T
        # Items that text does not tell apart are ordered by popularity; so is everything when nothing is known.
        found += np.float32(1e-4 / max(float(self.popularity.max(initial=0.0)), 1.0)) * self.popularity
        return mask_special_items(found)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)).astype(np.float32)
