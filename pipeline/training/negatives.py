"""Draws the shared negatives of sampled softmax, and says how likely each item was to be among them."""

from __future__ import annotations

import numpy as np

from pipeline.features.histories import FIRST_ITEM


class SharedNegatives:
    """Items drawn with replacement, popularity to a power; counted on training events only."""

    def __init__(self, items: np.ndarray, num_items: int, power: float, samples: int):
        """`items`: int32 [events] of the training histories."""
        counts = np.bincount(items, minlength=num_items)
        counts[:FIRST_ITEM] = 0
        # What nobody has had yet was no choice that anybody turned down.
        weights = np.where(counts > 0, (counts + 1.0) ** power, 0.0)
        shares = weights / max(weights.sum(), 1e-9)
        self.samples = samples if weights.any() else 0
        self.cumulative = np.cumsum(shares)
        with np.errstate(divide="ignore"):
            self.log_q = np.log(samples * shares).astype(np.float32)
        """float32 [num_items]: log of the expected number of times that an item is drawn; -inf for padding"""

    def draw(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Distinct items, int64 [drawn], and for each what to add to its logit, float32 [drawn]: it stands for as many
        samples as it was drawn, each corrected by its `log_q`.
        """
        drawn = np.searchsorted(self.cumulative, generator.random(self.samples), side="right")
        items, times = np.unique(np.minimum(drawn, len(self.cumulative) - 1), return_counts=True)
        return items, np.log(times).astype(np.float32) - self.log_q[items]
