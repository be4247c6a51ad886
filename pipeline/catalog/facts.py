"""Every fact of the catalogue, as plain data: the pages show it, `catalog.json` holds it, other programs read it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict

from pipeline.contracts import duration_of

State = Literal["fresh", "stale", "absent", "lasting"]
"""fresh: within the promise; stale: the promise is broken; absent: no row; lasting: rows hold until they change."""


class Fact(BaseModel):
    """A part of the catalogue."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Numbers(Fact):
    """Where numbers lie. `bins` counts them in equal parts from least to greatest."""

    count: int
    least: float
    mean: float
    greatest: float
    quantiles: dict[str, float]
    bins: tuple[int, ...]


class Frequent(Fact):
    """A value and how often it occurs."""

    value: str
    count: int


class Statistics(Fact):
    """How the values of one feature look, over the newest row of each entity."""

    rows: int
    nulls: int
    empty: int = 0
    """Lists without an element."""
    numbers: Numbers | None = None
    """The values; of a list, its elements."""
    first: datetime | None = None
    last: datetime | None = None
    distinct: int | None = None
    frequent: tuple[Frequent, ...] = ()
    lengths: Numbers | None = None
    norms: Numbers | None = None


class Example(Fact):
    """A value as it lies in the table; whose it is, shortened where the entity is a person."""

    entity: str
    value: str


class Reading(Fact):
    """How a feature is read, ready to be pasted."""

    python: str
    curl: str
    training_set: str


class Feature(Fact):
    """One feature of one view."""

    name: str
    type: str
    description: str
    missing: str
    """What a missing value says; empty where none can be missing."""
    statistics: Statistics
    examples: tuple[Example, ...]
    consumers: tuple[str, ...]
    """The feature services that hold it."""
    reading: Reading


class Freshness(Fact):
    """The promise of a view, and how it is kept now."""

    promise: str
    state: State
    newest: datetime | None
    """Event time of the newest row that is served; of the table, where nothing is served yet."""
    age_seconds: float | None
    is_served: bool


class Lineage(Fact):
    """Where the rows come from."""

    dag: str
    table: str
    table_version: int | None
    contract: str
    model_versions: tuple[int, ...]
    spaces: tuple[str, ...]
    model_cutoff: datetime | None


class View(Fact):
    """One feature view: the features that are written together."""

    name: str
    description: str
    owner: str
    entity: str
    key: str
    grain: str
    missing: str
    time_to_live_days: float | None
    entities: int
    """Entities in the table."""
    measured: int
    """Entities whose newest row the statistics describe."""
    freshness: Freshness
    lineage: Lineage
    features: tuple[Feature, ...]


class Service(Fact):
    """What one kind of consumer reads."""

    name: str
    description: str
    owner: str
    consumer: str
    promise: str
    state: State
    features: tuple[str, ...]
    """As view:feature."""


class Catalog(Fact):
    """Everything. `known_at` is when it was collected."""

    known_at: datetime
    views: tuple[View, ...]
    services: tuple[Service, ...]

    @property
    def num_features(self) -> int:
        return sum(len(view.features) for view in self.views)

    @property
    def stale(self) -> tuple[str, ...]:
        return tuple(view.name for view in self.views if view.freshness.state == "stale")


def state_of(promise: str, age: timedelta | None) -> State:
    """The state of a view whose newest row is `age` old."""
    if age is None:
        return "absent"
    if not promise:
        return "lasting"
    return "fresh" if age <= duration_of(promise) else "stale"


WORST_FIRST: tuple[State, ...] = ("absent", "stale", "fresh", "lasting")


def worst(states: list[State]) -> State:
    """Of several views the state that a consumer of all of them is in."""
    return min(states, key=WORST_FIRST.index, default="absent")
