"""
What the interest model is asked when it serves: states of users, their vectors, scores, forecasts.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Self

import numpy as np
import torch
from torch import Tensor

from pipeline.features.histories import UNKNOWN, Catalogue, Histories
from pipeline.features.training_rows import popularity_at
from pipeline.models.fixed_batches import fixed_batches
from pipeline.models.recommender import mask_special_items

USERS_AT_ONCE = 128


class InterestAnswers:
    """The part of `InterestEvolutionModel` that reads it; nothing here changes a weight."""

    def fit(self, histories: Histories, catalogue: Catalogue, as_of: datetime) -> Self:
        """Part of the Recommender protocol; this model is trained by `training.loop` and is only scored here."""
        if self.catalogue is None or catalogue.item_ids != self.catalogue.item_ids:
            raise ValueError(
                "The interest model was trained for another catalogue. Train it with "
                "pipeline.training.loop.train_interest_model before it is compared."
            )
        return self

    def observe(self, histories: Histories, as_of: datetime) -> Self:
        """Let the popularity logit know all users' events before `as_of`; weights and space stay as they are."""
        self.trend.copy_(torch.from_numpy(popularity_at(histories, self.config.num_items, as_of)))
        self.config.trend_as_of = as_of.isoformat()
        return self

    @torch.no_grad()
    def newest_states(self, histories: Histories) -> np.ndarray:
        """float32 [users, dim]: each user's state after the newest event, from which everything else is read.

        Batches have fixed shapes, so a user's state is the same bits whoever else is asked for.
        """
        self.eval()
        table = self.item_table()
        recent = histories.last(self.config.history_length)
        output = np.empty((recent.num_users, self.config.dim), dtype=np.float32)
        for positions, rows, length in fixed_batches(recent.lengths, self.config.history_length):
            events, last = _padded(recent.take(positions), rows, length)
            places = torch.from_numpy(last).to(self.device)
            newest = self.states(table, *torch.from_numpy(events).to(self.device), newest=places)  # [rows, 1, dim]
            output[positions] = newest[: len(positions), 0].float().cpu().numpy()
        return output

    @torch.no_grad()
    def _read(self, states: np.ndarray, width: int, read: Callable[[Tensor], Tensor]) -> np.ndarray:
        """[users, dim] -> float32 [users, width]: what `read` makes of states; in blocks of a fixed size, see above."""
        output = np.empty((len(states), width), dtype=np.float32)
        block = torch.zeros(USERS_AT_ONCE, states.shape[1], device=self.device)
        for first in range(0, len(states), USERS_AT_ONCE):
            some = torch.from_numpy(states[first : first + USERS_AT_ONCE])
            block[: len(some)] = some
            output[first : first + len(some)] = read(block)[: len(some)].float().cpu().numpy()
        return output

    def interest_of(self, states: np.ndarray) -> np.ndarray:
        """`encode`, of states that `newest_states` gave."""
        return self._read(states, self.config.dim, self.heads.long_term_interest)

    @torch.no_grad()
    def known_items(self) -> Tensor:
        """float32 [num_items, dim]: the items' vectors, for those who ask often."""
        return self.item_table()

    @torch.no_grad()
    def scores_of(self, states: np.ndarray, lengths: np.ndarray, table: Tensor | None = None) -> np.ndarray:
        """`scores`, of states that `newest_states` gave; lengths [users] are numbers of events.

        Args:
            table: what `known_items` gave; it is made anew without.
        """
        table, share = self.item_table() if table is None else table, self.config.answered_future_share
        follow = share * self.heads.follows("future") + (1.0 - share) * self.heads.follows("next")   # [windows]
        trend = follow @ self.trend                                                                    # [num_items]
        columns = table.T.contiguous()

        def read(some: Tensor) -> Tensor:
            query = share * self.heads.asked("future", some)[0] + (1.0 - share) * self.heads.asked("next", some)[0]
            return torch.addmm(trend, query * (some != 0).any(dim=1, keepdim=True), columns)

        found = self._read(np.where(lengths[:, None] > 0, states, np.float32(0.0)), self.config.num_items, read)
        return mask_special_items(found)

    def encode(self, histories: Histories) -> np.ndarray:
        """float32 [users, dim], unit length: the long-term interest of each user.

        It depends on the user's own events only. A user without events gets the vector of one unknown event.
        """
        return self.interest_of(self.newest_states(histories))

    @torch.no_grad()
    def item_vectors(self) -> np.ndarray:
        """float32 [num_items, dim]: items in the space of the long-term interest; rows 0 and 1 mean nothing."""
        return self.item_table().cpu().numpy()

    @torch.no_grad()
    def scores(self, histories: Histories, as_of: datetime | None = None) -> np.ndarray:
        """float32 [users, num_items]: logits of the two item heads, weighted by `answered_future_share`.

        -inf at padding and the unknown item. A user without events is scored by the trend alone. `as_of` is part
        of the Recommender protocol: what is known is fixed by `histories` and by the last `observe`.
        """
        return self.scores_of(self.newest_states(histories), histories.lengths)

    def category_mix(self, histories: Histories) -> np.ndarray:
        """float32 [users, categories]: forecast shares of `config.categories` in the next `period_days`."""
        if not self.config.categories:
            return np.zeros((histories.num_users, 0), dtype=np.float32)
        recent = histories.last(self.config.history_length)
        had = np.zeros((recent.num_users, len(self.config.categories)), dtype=np.float32)
        np.add.at(had, recent.owners, self.category_shares.cpu().numpy()[recent.items])
        known, dim = np.concatenate([self.newest_states(histories), had], axis=1), self.config.dim
        return self._read(
            known, had.shape[1], lambda some: self.heads.category_mix(some[:, :dim], some[:, dim:]).softmax(dim=1)
        )

    def as_recommender(self) -> Self:
        return self


def _padded(users: Histories, rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Items, types and times, int64 [3, rows, length], of at most so many users; and where the newest is, [rows].

    Somebody without events has one unknown event. Behind the newest event time stands still.
    """
    events = np.zeros((3, rows, length), dtype=np.int64)
    places = np.arange(users.num_events) - users.offsets[users.owners]                          # [events]
    events[:, users.owners, places] = users.items, users.types, users.times
    events[0, : users.num_users][users.lengths == 0, 0] = UNKNOWN
    last = np.zeros(rows, dtype=np.int64)
    last[: users.num_users] = np.maximum(users.lengths - 1, 0)
    newest = events[2, np.arange(rows), last][:, None]
    events[2] = np.where(np.arange(length) > last[:, None], newest, events[2])
    return events, last
