"""
Asking a model in another model's terms: each has its own catalogue and its own order of event types.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np

from pipeline.features.histories import FIRST_ITEM, Catalogue, Histories
from pipeline.models.interest_evolution import InterestEvolutionModel
from pipeline.models.recommender import InCatalogue


def with_types(histories: Histories, event_types: tuple[str, ...]) -> Histories:
    """The same events, their types numbered as in `event_types`; a type that is not among them becomes unknown."""
    if histories.event_types == event_types:
        return histories
    numbers = [0, *(event_types.index(name) + 1 if name in event_types else 0 for name in histories.event_types)]
    return replace(histories, types=np.array(numbers, dtype=np.int16)[histories.types], event_types=event_types)


class EncoderIn:
    """`model.encode` for histories in the terms of `catalogue`; a user without events gets zeros, not a guess."""

    def __init__(self, model: InterestEvolutionModel, catalogue: Catalogue) -> None:
        self.model, self.catalogue = model, catalogue
        self.index = model.catalogue.index_of(catalogue.item_ids)
        self.index[:FIRST_ITEM] = np.arange(FIRST_ITEM)

    def __call__(self, histories: Histories) -> np.ndarray:
        own = replace(histories, items=self.index[histories.items])
        vectors = self.model.encode(with_types(own, tuple(self.model.config.event_types)))
        vectors[histories.lengths == 0] = 0.0
        return vectors

    def item_vectors(self) -> np.ndarray:
        """float32 [catalogue.num_items, dim]: the items in the same space; zeros for one that the model has not."""
        found = self.model.item_vectors()[self.index]
        found[self.index < FIRST_ITEM] = 0.0
        return found

    @property
    def before_validation(self) -> EncoderIn:
        """The same with the model as it was before it learned from its validation window."""
        earlier = self.model.before_validation
        return self if earlier is self.model else EncoderIn(earlier, self.catalogue)


def encoder_in(model: InterestEvolutionModel, catalogue: Catalogue) -> EncoderIn:
    """See `EncoderIn`."""
    return EncoderIn(model, catalogue)


def recommender_in(model: InterestEvolutionModel, catalogue: Catalogue, name: str) -> InCatalogue:
    """`model.scores` for histories in the terms of `catalogue`."""
    return InCatalogue(_InOwnTypes(model), model.catalogue, catalogue, name)


class _InOwnTypes:
    """The interest model, given its own order of event types."""

    def __init__(self, model: InterestEvolutionModel):
        self.model, self.name = model, model.name

    def fit(self, histories: Histories, catalogue: Catalogue, as_of: datetime) -> _InOwnTypes:
        """The model was trained before; nothing happens."""
        return self

    def scores(self, histories: Histories, as_of: datetime) -> np.ndarray:
        return self.model.scores(with_types(histories, tuple(self.model.config.event_types)), as_of)
