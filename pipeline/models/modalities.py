"""
What an item looks or sounds like, as a part of its vector: whitened, projected and added, as its text is.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.features.histories import Catalogue
from pipeline.text.whitening import Whitening

FEWEST_ITEMS = 2
"""With a vector, for a modality to be read: one alone tells nothing apart."""


def modality_vectors(catalogue: Catalogue) -> dict[str, np.ndarray]:
    """Modality → float32 [num_items, dim]: unit length, and rows of zeros where an item has no vector.

    Vectors of an encoder of pictures or sound lie in one narrow cone, as raw text vectors do; the whitening is fitted
    on the items of the catalogue, so on nothing later than it.
    """
    found = {}
    for modality, vectors in catalogue.vectors.items():
        has = (vectors != 0).any(axis=1)
        if has.sum() < FEWEST_ITEMS:
            continue
        whitening = Whitening.fit(vectors[has], modality)
        found[modality] = np.zeros((len(vectors), whitening.dim), dtype=np.float32)
        found[modality][has] = whitening.apply(vectors[has])
    return found


class ModalityPart(nn.Module):
    """The part of every item's vector that comes from one modality."""

    def __init__(self, num_items: int, width: int, dim: int):
        super().__init__()
        self.project = nn.Linear(width, dim, bias=False)
        self.register_buffer("vectors", torch.zeros(num_items, width))

    def forward(self, items: Tensor | None = None) -> Tensor:
        """[num_items, dim], or [items, dim] of the given ones; zeros for an item without a vector"""
        return self.project(self.vectors if items is None else self.vectors[items])
