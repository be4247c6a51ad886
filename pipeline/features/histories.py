"""
What models read: a catalogue that turns item ids into indices, and the users' histories as flat arrays.

Both are values without a store behind them. A model's catalogue is fixed at its training and saved with it;
histories are cut from events (training) or from sequence features (serving) with the same code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np
import polars as pl

from pipeline.contracts import UNCATEGORISED, UNKNOWN_TITLE

PADDING = 0
"""The item index (and event type) of no event."""
UNKNOWN = 1
"""The item index of every item that the catalogue does not hold."""
FIRST_ITEM = 2

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds_of(moment: datetime) -> int:
    """Microseconds since 1970, exactly; a moment without a zone is refused by the subtraction."""
    return (moment - EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True)
class Catalogue:
    """A model's item vocabulary: index 0 is padding, 1 the unknown item, real items from 2 on, sorted by id."""

    item_ids: tuple[str, ...]
    titles: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    """modality → float32 [num_items, width]; zeros where an item has none. What a model is made from; not saved."""

    def __post_init__(self) -> None:
        if not len(self.item_ids) == len(self.titles) == len(self.categories) >= FIRST_ITEM:
            raise ValueError(
                f"A catalogue needs equally many ids, titles and categories, at least {FIRST_ITEM}; found "
                f"{len(self.item_ids)}, {len(self.titles)} and {len(self.categories)}."
            )

    @classmethod
    def of(cls, items: Sequence[tuple[str, str, Sequence[str]]]) -> Catalogue:
        """From `(item_id, title, categories)` of the real items, in any order."""
        rows = sorted((item_id, title, tuple(categories)) for item_id, title, categories in items)
        return cls(
            item_ids=("", "", *(row[0] for row in rows)),
            titles=("", UNKNOWN_TITLE, *(row[1] for row in rows)),
            categories=((), (), *(row[2] or (UNCATEGORISED,) for row in rows)),
        )

    @classmethod
    def from_frames(cls, items: pl.DataFrame, events: pl.DataFrame, as_of: datetime | None = None) -> Catalogue:
        """The items known at `as_of`: described before it (contract ITEMS) or touched by one of `events`.

        What holds from that very moment on is of the future, as in `Histories.before`: in a log that knows only days,
        that is whatever the first day after it brings. Of several descriptions of an item the newest one that held
        before is taken. An item without one is called "unknown". Without `as_of`, the last event bounds the
        descriptions, and what holds from its moment on is known.
        """
        known = items
        if as_of is not None:
            known = items.filter(pl.col("valid_from") < as_of)
        elif events.height:
            known = items.filter(pl.col("valid_from") <= events["event_time"].max())
        newest = known.sort("item_id", "valid_from").unique("item_id", keep="last", maintain_order=True)
        touched = events.select(pl.col("item_id").unique())
        rows = newest.select("item_id", "title", "categories").join(touched, on="item_id", how="full", coalesce=True)
        return cls.of([(item, title or UNKNOWN_TITLE, tags or ()) for item, title, tags in rows.iter_rows()])

    def with_vectors(self, rows: pl.DataFrame, as_of: datetime) -> Catalogue:
        """The same items with the vectors that held before `as_of`, from rows of the contract ITEM_VECTORS.

        Only vectors as wide as the newest one of their modality are taken: others are of an older encoder.
        """
        known = rows.filter(pl.col("valid_from") < as_of, pl.col("item_id").is_in(self.item_ids[FIRST_ITEM:]))
        newest = known.sort("valid_from", "item_id").unique(["item_id", "modality"], keep="last", maintain_order=True)
        found: dict[str, np.ndarray] = {}
        for (modality,), own in sorted(newest.partition_by("modality", as_dict=True).items()):
            width = len(own["vector"][-1])
            own = own.filter(pl.col("vector").list.len() == width)
            found[modality] = np.zeros((self.num_items, width), dtype=np.float32)
            found[modality][self.index_of(own["item_id"].to_list())] = np.array(own["vector"].to_list())
        return replace(self, vectors=found)

    @property
    def num_items(self) -> int:
        """Length of the vocabulary, padding and the unknown item included."""
        return len(self.item_ids)

    @cached_property
    def category_names(self) -> tuple[str, ...]:
        return tuple(sorted({name for names in self.categories for name in names}))

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {item_id: index for index, item_id in enumerate(self.item_ids) if index >= FIRST_ITEM}

    def index_of(self, item_ids: Sequence[str]) -> np.ndarray:
        """int32, one index for each id; an id that the catalogue does not hold becomes UNKNOWN."""
        positions = self._positions
        return np.fromiter((positions.get(item, UNKNOWN) for item in item_ids), dtype=np.int32, count=len(item_ids))

    def category_matrix(self) -> np.ndarray:
        """float32 [num_items, num_categories]; an item's weight is shared by its categories, rows sum to 1.

        The rows of padding and of the unknown item are 0.
        """
        return self._category_matrix

    @cached_property
    def _category_matrix(self) -> np.ndarray:
        columns = {name: column for column, name in enumerate(self.category_names)}
        matrix = np.zeros((self.num_items, len(columns)), dtype=np.float32)
        for row, names in enumerate(self.categories):
            for name in names:
                matrix[row, columns[name]] += 1.0 / len(names)
        matrix.flags.writeable = False                                      # everybody gets the same one
        return matrix


@dataclass(frozen=True)
class Histories:
    """The events of many users, ragged: user `i` owns positions `offsets[i]:offsets[i + 1]`, oldest first.

    Users are sorted by id, a user's events by (event_time, event_id).
    """

    user_ids: np.ndarray = field(repr=False)
    """str objects [users]"""
    offsets: np.ndarray = field(repr=False)
    """int64 [users + 1]"""
    items: np.ndarray = field(repr=False)
    """int32 [events], indices of a catalogue"""
    types: np.ndarray = field(repr=False)
    """int16 [events]; t > 0 is `event_types[t - 1]`, 0 an unknown type"""
    times: np.ndarray = field(repr=False)
    """int64 [events], microseconds since 1970"""
    event_types: tuple[str, ...]

    @classmethod
    def from_events(cls, events: pl.DataFrame, catalogue: Catalogue, event_types: Sequence[str]) -> Histories:
        """From rows of the contract BEHAVIOR_EVENTS, in any order."""
        frame = events.select("user_id", "item_id", "event_type", "event_time", "event_id")
        frame = frame.sort("user_id", "event_time", "event_id")
        lengths = frame.group_by("user_id", maintain_order=True).len()
        return cls._of_flat(lengths["user_id"], lengths["len"].to_numpy(), frame, catalogue, tuple(event_types))

    @classmethod
    def from_sequences(cls, rows: pl.DataFrame, catalogue: Catalogue, event_types: Sequence[str]) -> Histories:
        """From rows of the contract SEQUENCE_FEATURES; of several rows of a user the newest one counts."""
        newest = rows.sort("user_id", "event_timestamp", "created").unique("user_id", keep="last", maintain_order=True)
        flat = newest.select("item_ids", "event_types", "event_times").filter(pl.col("item_ids").list.len() > 0)
        flat = flat.explode("item_ids", "event_types", "event_times").rename(
            {"item_ids": "item_id", "event_types": "event_type", "event_times": "event_time"}
        )
        lengths = newest["item_ids"].list.len().to_numpy()
        return cls._of_flat(newest["user_id"], lengths, flat, catalogue, tuple(event_types))

    @classmethod
    def _of_flat(
        cls, users: pl.Series, lengths: np.ndarray, flat: pl.DataFrame, catalogue: Catalogue, types: tuple[str, ...]
    ) -> Histories:
        type_of = {name: position + 1 for position, name in enumerate(types)}
        codes = flat["event_type"].replace_strict(type_of, default=0, return_dtype=pl.Int16)
        return cls(
            user_ids=users.to_numpy().astype(object),
            offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
            items=catalogue.index_of(flat["item_id"].to_list()),
            types=codes.fill_null(0).to_numpy().astype(np.int16),
            times=flat["event_time"].dt.epoch("us").to_numpy().astype(np.int64),
            event_types=types,
        )

    @property
    def num_users(self) -> int:
        return len(self.user_ids)

    @property
    def num_events(self) -> int:
        return len(self.items)

    @property
    def lengths(self) -> np.ndarray:
        """int64 [users]"""
        return np.diff(self.offsets)

    @property
    def owners(self) -> np.ndarray:
        """int64 [events]: the position of the user to whom each event belongs."""
        return np.repeat(np.arange(self.num_users), self.lengths)

    def user(self, position: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Items, types and times of one user, as views."""
        part = slice(self.offsets[position], self.offsets[position + 1])
        return self.items[part], self.types[part], self.times[part]

    def before(self, moment: datetime) -> Histories:
        """The same users with their events before `moment`."""
        return self.keep(self.times < microseconds_of(moment))

    def between(self, first: datetime, end: datetime) -> Histories:
        """The same users with their events from `first` up to, not including, `end`."""
        return self.keep((self.times >= microseconds_of(first)) & (self.times < microseconds_of(end)))

    def last(self, count: int) -> Histories:
        """The same users with at most their `count` newest events."""
        ends = np.repeat(self.offsets[1:], self.lengths)
        return self.keep(np.arange(self.num_events) >= ends - count)

    def take(self, positions: Sequence[int] | np.ndarray) -> Histories:
        """Some of the users, by position (or bool mask); order them ascending to keep users sorted."""
        positions = np.asarray(positions)
        positions = np.flatnonzero(positions) if positions.dtype == bool else positions.astype(np.int64)
        lengths = self.lengths[positions]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        flat = np.repeat(self.offsets[positions], lengths) + within
        return Histories(
            self.user_ids[positions], offsets, self.items[flat], self.types[flat], self.times[flat], self.event_types
        )

    def followed_by(self, later: Histories) -> Histories:
        """All users of both, each with the events here and then those of `later`."""
        if later.event_types != self.event_types:
            raise ValueError(f"Event types differ: {self.event_types} and {later.event_types}.")
        users = np.array(sorted({*self.user_ids, *later.user_ids}), dtype=object)
        place = {user: position for position, user in enumerate(users)}
        owners = np.concatenate(
            [np.array([place[user] for user in part.user_ids], dtype=np.int64)[part.owners] for part in (self, later)]
        )
        order = np.argsort(owners, kind="stable")
        lengths = np.bincount(owners, minlength=len(users))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        flat = (np.concatenate(pair)[order] for pair in zip(
            (self.items, self.types, self.times), (later.items, later.types, later.times), strict=True
        ))
        return Histories(users, offsets, *flat, self.event_types)

    def with_events(self) -> Histories:
        """The users that have an event."""
        return self.take(self.lengths > 0)

    def keep(self, mask: np.ndarray) -> Histories:
        """The same users with the events of a mask, [events] bool."""
        kept = np.concatenate([[0], np.cumsum(mask)]).astype(np.int64)
        return Histories(
            self.user_ids, kept[self.offsets], self.items[mask], self.types[mask], self.times[mask], self.event_types
        )
