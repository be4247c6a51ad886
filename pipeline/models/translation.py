"""
Asking a model in another model's terms: each has its own catalogue and its own order of event types.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import torch

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
        return self.of_states(self.states(histories), histories)

    def states(self, histories: Histories) -> np.ndarray:
        """float32 [users, dim]: the model's states of users whose histories are in the terms of the catalogue."""
        own = replace(histories, items=self.index[histories.items])
        return self.model.newest_states(with_types(own, tuple(self.model.config.event_types)))

    def of_states(self, states: np.ndarray, histories: Histories) -> np.ndarray:
        """The vectors, of states of the same users."""
        vectors = self.model.interest_of(states)
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


class ReadOnce:
    """A model asked twice about the same users, for their vectors and for its own scores, which reads them once.

    Its weights must not change any more. It remembers the users of the last question, and no more.
    """

    def __init__(self, model: InterestEvolutionModel, catalogue: Catalogue) -> None:
        self.encoder, self.name = EncoderIn(model, catalogue), model.name
        self.last: tuple[Histories, np.ndarray] | None = None
        self.table: torch.Tensor | None = None
        translated = InCatalogue(self, model.catalogue, catalogue)
        self.back = None if catalogue.item_ids == model.catalogue.item_ids else translated.back

    def __call__(self, histories: Histories) -> np.ndarray:
        """As `EncoderIn`."""
        return self.encoder.of_states(self.states(histories), histories)

    def fit(self, histories: Histories, catalogue: Catalogue, as_of: datetime) -> ReadOnce:
        """The model was trained before; nothing happens."""
        return self

    def scores(self, histories: Histories, as_of: datetime) -> np.ndarray:
        """As those of `recommender_in`."""
        if self.table is None:
            self.table = self.encoder.model.known_items()
        found = self.encoder.model.scores_of(self.states(histories), histories.lengths, self.table)
        return found if self.back is None else self.back(found)

    def states(self, histories: Histories) -> np.ndarray:
        """float32 [users, dim]"""
        if self.last is None or self.last[0] is not histories:
            self.remember(histories, self.encoder.states(histories))
        return self.last[1]

    def remember(self, histories: Histories, states: np.ndarray) -> None:
        """Take for granted that `histories` have these states, float32 [users, dim]."""
        self.last = histories, states


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
