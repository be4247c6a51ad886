"""
A release: a collaborative filter, the interest model that it was tuned with, and the hybrid that is served from both.

The two share one embedding space and are swapped together. What is popular is a state and not a weight: `observe` tells
every part what was known at a moment, and is saved with the parts.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from pipeline.errors import UnsafeModel
from pipeline.features.histories import FIRST_ITEM, Catalogue, Histories
from pipeline.models.baselines import ItemKNN, NewestItemKNN, Popularity30d
from pipeline.models.collaborative_filter import CollaborativeFilter
from pipeline.models.content import Content
from pipeline.models.diversity import diverse_top_k
from pipeline.models.hybrid import Hybrid
from pipeline.models.interest_evolution import InterestEvolutionModel
from pipeline.models.interest_vectors import WithInterest
from pipeline.models.recommender import Recommender, mask_special_items, top_k
from pipeline.models.translation import ReadOnce, with_types

STATE = "release.safetensors"
USERS_AT_ONCE = 256
"""Whose scores of all items are held together."""


class Release:
    """A recommender in the terms of the filter's catalogue. Call `observe` before the first `scores`, or `load` it."""

    name = "hybrid"

    def __init__(
        self, collaborative_filter: CollaborativeFilter, interest: InterestEvolutionModel, vectors: np.ndarray
    ):
        """
        Args:
            vectors: [num_items, dim], the items as the content part compares them.

        Raises:
            UnsafeModel: the filter was tuned in another space than the interest model's.
        """
        if collaborative_filter.space_id != interest.config.space_id:
            raise UnsafeModel(
                f"The collaborative filter was tuned in space {collaborative_filter.space_id}, but the interest model "
                f"speaks {interest.config.space_id}. Vectors of two spaces never meet in one answer."
            )
        self.filter, self.interest, self.vectors = collaborative_filter, interest, vectors
        self.catalogue: Catalogue = collaborative_filter.catalogue
        self.event_types: tuple[str, ...] = tuple(collaborative_filter.event_types)
        self.space_id: str = collaborative_filter.space_id
        self.interest_part = self.encode = ReadOnce(interest, self.catalogue)
        self.filter_part: Recommender = WithInterest(collaborative_filter, self.encode, collaborative_filter.name)
        self.content = Content(vectors)
        self.popularity = Popularity30d()
        self.neighbours = ItemKNN()
        newest = NewestItemKNN(self.neighbours)
        parts = (self.interest_part, self.filter_part, self.content, self.popularity, self.neighbours, newest)
        self.hybrid = Hybrid({part.name: part for part in parts})

    def observe(self, histories: Histories, moment: datetime) -> Release:
        """Learn what changes without training from everybody's events, in the filter's terms: what is popular at
        `moment`, what goes with what, which items nobody has had. Later events are left out."""
        before = histories.before(moment)
        self.observe_popularity(before, moment)
        self.neighbours.fit(before, self.catalogue, moment)
        self.hybrid.observe(before, self.catalogue.num_items)
        return self

    def observe_popularity(self, before: Histories, moment: datetime) -> None:
        """Let every part know what is popular at `moment`, from the events before it, and no more than that."""
        self.filter.observe(before, moment)
        index = self.interest.catalogue.index_of(self.catalogue.item_ids)
        index[:FIRST_ITEM] = np.arange(FIRST_ITEM)
        own = with_types(replace(before, items=index[before.items]), tuple(self.interest.config.event_types))
        self.interest.observe(own, moment)
        self.content.fit(before, self.catalogue, moment)
        self.popularity.fit(before, self.catalogue, moment)

    def fit(self, histories: Histories, catalogue: Catalogue, as_of: datetime) -> Release:
        """Part of the Recommender protocol; the parts are trained on their own."""
        return self

    def fit_weights(
        self, known: Histories, future: Histories, moment: datetime, include_seen: bool, own_moments: bool = False
    ) -> Release:
        """Choose the hybrid's weights on a window that no part has learned from. `observe` has to follow.

        Of parts that have, their state before it is asked; nothing but the weights is kept of that.

        Args:
            known: events before the window; `future`: those of the window, of the same users in the same order.
            moment: the start of the window, after all that is known.
            own_moments: whether each user is asked at their own newest event instead, and told what was popular then.
        """
        before = Release(self.filter.before_validation, self.interest.before_validation, self.vectors)
        before.observe(known, moment)
        if own_moments:
            before.hybrid.fit_weights(
                known, future, None, include_seen, lambda asked: before.observe_popularity(known.before(asked), asked)
            )
        else:
            before.hybrid.fit_weights(known, future, moment, include_seen)
        self.hybrid.weights, self.hybrid.fresh = before.hybrid.weights, before.hybrid.fresh
        self.hybrid.calibration = before.hybrid.calibration
        return self

    def scores(self, histories: Histories, as_of: datetime) -> np.ndarray:
        """[users, num_items] float32: the hybrid's scores; popularity for a user without events."""
        found = self.hybrid.scores(histories, as_of)
        found[histories.lengths == 0] = mask_special_items(self.popularity.popularity[None].copy())
        return found

    def best(
        self, histories: Histories, k: int, seen: tuple[np.ndarray, np.ndarray] | None, as_of: datetime,
        diversity: float = 0.0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best items of each user.

        Args:
            seen: positions of users and item indices, two arrays [pairs], that are left out; None: nothing is.
            diversity: how much a list is made of items unlike one another, as in `diverse_top_k`; 0: by score alone.

        Returns:
            items int64 and scores float32, both [users, k]; -1 and -inf where fewer remain.
        """
        states, lists = self.encode.states(histories), []  # of all at once: the encoder wants many of like length
        for first in range(0, max(histories.num_users, 1), USERS_AT_ONCE):
            some = histories.take(np.arange(first, min(first + USERS_AT_ONCE, histories.num_users)))
            self.encode.remember(some, states[first : first + USERS_AT_ONCE])
            scores = self.scores(some, as_of)
            if seen is not None:
                own = (seen[0] >= first) & (seen[0] < first + some.num_users)
                scores[seen[0][own] - first, seen[1][own]] = -np.inf
            lists.append(diverse_top_k(scores, k, None, self.vectors, diversity))
        return np.concatenate([items for items, _ in lists]), np.concatenate([found for _, found in lists])

    def probabilities(self, scores: np.ndarray) -> np.ndarray | None:
        """How probable it is that a user takes an item of that score; None where that was not fitted.

        Within as many days as the window had on which the weights were chosen.
        """
        return self.hybrid.calibration and self.hybrid.calibration(scores)

    def popular(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Items and scores [k] for somebody of whom nothing is known."""
        items, scores = top_k(mask_special_items(self.popularity.popularity[None].copy()), k)
        return items[0], scores[0]

    def save(self, folder: Path) -> None:
        """Write everything but the interest model, which is registered on its own."""
        self.filter.save(folder)
        self.hybrid.save(folder)
        state = {
            "content_vectors": self.content.vectors,
            "content_popularity": self.content.popularity,
            "popularity": self.popularity.popularity,
            "interest_trend": self.interest.trend.numpy(),
            "unseen": self.hybrid.unseen,
            **self.neighbours.state(),
        }
        save_file({name: np.ascontiguousarray(value) for name, value in state.items()}, folder / STATE)

    @classmethod
    def load(cls, folder: Path, interest: InterestEvolutionModel) -> Release:
        """Join what `save` wrote with the interest model of the same space. Raises UnsafeModel."""
        import torch

        state = load_file(folder / STATE)
        release = cls(CollaborativeFilter.load(folder), interest, state["content_vectors"])
        release.content.vectors = state["content_vectors"]
        release.content.popularity = state["content_popularity"]
        release.popularity.popularity = state["popularity"]
        interest.trend.copy_(torch.from_numpy(state["interest_trend"]))
        if not release.neighbours.restore(state):  # of a release from before there were neighbours
            del release.hybrid.parts[release.neighbours.name]
        release.hybrid = Hybrid.load(folder, release.hybrid.parts)
        release.hybrid.unseen = state["unseen"]
        return release
