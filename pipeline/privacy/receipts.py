"""
The receipt of an erasure: each place, what was taken out of it, and whether anything is left. It never names the user.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from pipeline.partitions import Day, Week

DISTINCT = re.compile(r"^(?=.*\D).{6,}$|^\d{10,}$")
WORD = re.compile(rb"[\w.@+\-]+")


class Place(BaseModel):
    """One place that may hold something of a user."""

    model_config = ConfigDict(frozen=True)

    name: str
    removed: int = 0
    """Rows, keys or files, in all runs of this erasure."""
    remaining: int | None = None
    """What the last verification found; None: not looked at yet."""
    is_done: bool = False

    def beginning(self, found: int) -> Place:
        """Noted before the removal, so that a crash in it loses no count."""
        removed = self.removed + found if self.is_done else max(self.removed, found)
        return self.model_copy(update={"removed": removed, "is_done": False})


class TrainedOn(BaseModel):
    """A model version whose training data held events of the user."""

    model_config = ConfigDict(frozen=True)

    model: str
    version: int
    status: str
    model_cutoff: datetime
    unlearn_by: datetime
    """When the next scheduled training replaces it by one that never saw the user."""


class Receipt(BaseModel):
    """What became of one request. It is written before the first removal and after each place."""

    model_config = ConfigDict(frozen=True)

    receipt: str
    keyed_hash: str
    key_id: str
    reason: str
    asked_at: datetime
    first_event: datetime | None = None
    is_searched_as_text: bool = True
    """False for an id that is too short to be told from other words and numbers in pages and logs."""
    places: tuple[Place, ...] = ()
    trained_on: tuple[TrainedOn, ...] = ()
    training_sets: tuple[str, ...] = ()
    """Sets that were handed out before: they may hold the user and cannot be made again. Their owners must act."""
    unreadable: tuple[str, ...] = ()
    """Files of the landing folder that nobody can read, so nobody knows whom they hold."""
    verified_at: datetime | None = None

    @property
    def remaining(self) -> int:
        return sum(place.remaining or 0 for place in self.places)

    @property
    def is_verified(self) -> bool:
        return bool(self.places) and all(place.remaining == 0 for place in self.places)

    def place(self, name: str) -> Place:
        return next((place for place in self.places if place.name == name), Place(name=name))

    def with_place(self, place: Place) -> Receipt:
        """The receipt with this place, in the order in which places came."""
        names = [standing.name for standing in self.places]
        if place.name in names:
            places = tuple(place if p.name == place.name else p for p in self.places)
        else:
            places = (*self.places, place)
        return self.model_copy(update={"places": places})


def without_id(text: str, names: Sequence[str]) -> str:
    """A reason in which the user is not named."""
    for name in names:
        text = re.sub(rf"(?<![\w.@+-]){re.escape(name)}(?![\w@+-])", "[the user]", text)
    return text


def is_distinct(user_id: str) -> bool:
    """Whether an id can be looked for in running text: long enough, and no plain number of few digits."""
    return DISTINCT.match(user_id) is not None


def words_of(content: bytes) -> Iterator[str]:
    """Every distinct word of a text that may be an id, also without a full stop or dash at its ends."""
    for word in set(WORD.findall(content)):
        text = word.decode("utf-8", "replace")
        yield text
        if (bare := text.strip(".-+")) != text:
            yield bare


def unlearn_by(asked_at: datetime) -> datetime:
    """When the first weekly training after the erasure takes place: at the end of its week."""
    return Week.of(Day.of(asked_at)).end
