"""
The split by time, and what is asked of a model in the test window.

    | train ................ | validation ......... | test .............. |
    first event        validation_start          test_start           as_of

Weights are learned before `validation_start`; epochs, strengths and mixtures are chosen on the validation window, and
when they are, the models learn from that window too, for as long as was found to be best. What results is measured on
the test window and served as it is: nothing is learned from the test window. At test time a model may read a user's
events up to `test_start`, and none after it.

Two questions, both asked of the whole catalogue that was known at `test_start`:

- *next*: the user's first event in the test window (HR, NDCG, MRR: one relevant item);
- *future*: all distinct items of the user in the test window (Recall, and NDCG over all of them).

Unless items may be recommended again, items that the user has had before are taken out of both the lists and the
questions. An event of an item that the catalogue does not hold cannot be ranked by anyone: it is counted
(`outside_catalogue`) and not asked. Users without an event before the test window have no vector and no history;
they get a popularity answer in service, are counted (`without_history`) and not ranked here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from pipeline.features.histories import FIRST_ITEM, Histories
from pipeline.models.recommender import new_events


@dataclass(frozen=True)
class TimeSplit:
    """Three windows; each begins where the one before it ends. All moments in UTC."""

    validation_start: datetime
    test_start: datetime
    as_of: datetime

    @classmethod
    def of(cls, as_of: datetime, test_days: int, validation_days: int) -> TimeSplit:
        """Cut the days before `as_of`: the last `test_days` are the test, the `validation_days` before them validate.

        `as_of` is the first moment that is no longer in the data, for example the end of a week.
        """
        test_start = as_of - timedelta(days=test_days)
        return cls(test_start - timedelta(days=validation_days), test_start, as_of)

    def train(self, histories: Histories) -> Histories:
        return histories.before(self.validation_start)

    def validation(self, histories: Histories) -> Histories:
        return histories.between(self.validation_start, self.test_start)

    def known(self, histories: Histories) -> Histories:
        """What a model may read when it is tested: train and validation."""
        return histories.before(self.test_start)

    def test(self, histories: Histories) -> Histories:
        return histories.between(self.test_start, self.as_of)


@dataclass(frozen=True)
class Questions:
    """Who is asked, and what the right answers are."""

    known: Histories
    """the asked users and what may be read of them"""
    next_item: np.ndarray = field(repr=False)
    """[users] int64: the first new item of each user"""
    offsets: np.ndarray = field(repr=False)
    """[users + 1]: user `i` owns `items[offsets[i]:offsets[i + 1]]`"""
    items: np.ndarray = field(repr=False)
    """[targets] int64: the distinct new items of each user, ascending"""
    include_seen: bool
    events: int
    outside_catalogue: int
    without_history: int

    @property
    def num_users(self) -> int:
        return self.known.num_users

    @property
    def num_relevant(self) -> np.ndarray:
        """[users] int64, at least 1."""
        return np.diff(self.offsets)

    def take(self, first: int, end: int) -> Questions:
        """A run of neighbouring users."""
        return Questions(
            known=self.known.take(np.arange(first, end)),
            next_item=self.next_item[first:end],
            offsets=self.offsets[first : end + 1] - self.offsets[first],
            items=self.items[self.offsets[first] : self.offsets[end]],
            include_seen=self.include_seen,
            events=self.events,
            outside_catalogue=self.outside_catalogue,
            without_history=self.without_history,
        )


def ask(known: Histories, future: Histories, include_seen: bool = False) -> Questions:
    """Turn what happened into questions; `known` and `future` hold the same users in the same order.

    Args:
        known: events before the test window.
        future: events of the test window.
        include_seen: whether an item that the user has had may be asked for (and recommended) again.
    """
    if known.num_users != future.num_users or not np.array_equal(known.user_ids, future.user_ids):
        raise ValueError("Known and future events must be of the same users in the same order: cut one `Histories`.")
    has_history = known.lengths > 0
    allowed = new_events(future, None if include_seen else known) & has_history[future.owners]
    owners, items = future.owners[allowed], future.items[allowed].astype(np.int64)
    users, first = np.unique(owners, return_index=True)  # owners are ascending: the first event of each user
    width = int(items.max(initial=0)) + 1
    pairs = np.unique(owners * width + items)
    lengths = np.bincount(np.searchsorted(users, pairs // width), minlength=len(users))
    return Questions(
        known=known.take(users),
        next_item=items[first],
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=pairs % width,
        include_seen=include_seen,
        events=future.num_events,
        outside_catalogue=int((future.items < FIRST_ITEM).sum()),
        without_history=int(((future.lengths > 0) & ~has_history).sum()),
    )
