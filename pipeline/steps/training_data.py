"""
What a training as of a cutoff may know: events, items and text vectors, each of a named version of its table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
import polars as pl

from pipeline.contracts import BEHAVIOR_EVENTS, ITEM_TEXT, ITEM_VECTORS, ITEMS
from pipeline.errors import BadPartition
from pipeline.evaluation.split import TimeSplit
from pipeline.features.histories import FIRST_ITEM, Catalogue, Histories
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.steps.item_text import text_space
from pipeline.stores.model_versions import Dataset
from pipeline.stores.tables import Lake

SAMPLE_ROWS = 100


@dataclass(frozen=True)
class TrainingData:
    """Everything a training as of `split.as_of` may know, and from which versions of the tables it was read."""

    split: TimeSplit
    events: pl.DataFrame = field(repr=False)
    items: pl.DataFrame = field(repr=False)
    text: pl.DataFrame = field(repr=False)
    vectors: pl.DataFrame = field(repr=False)
    text_space: str
    """the space of the text encoder in the settings"""
    versions: dict[str, int]
    """Delta version by table"""
    lake: Lake = field(repr=False)

    @cached_property
    def known_events(self) -> pl.DataFrame:
        """The events before the test window."""
        return self.events.filter(pl.col("event_time") < self.split.test_start)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The items known when the test window begins."""
        found = Catalogue.from_frames(self.items, self.known_events, self.split.test_start)
        return found.with_vectors(self.vectors, self.split.test_start)

    @cached_property
    def event_types(self) -> tuple[str, ...]:
        return tuple(sorted(self.known_events["event_type"].unique()))

    @cached_property
    def histories(self) -> Histories:
        """All users' events before `as_of`, in the catalogue's terms."""
        return self.histories_in(self.catalogue, self.event_types)

    def histories_in(self, catalogue: Catalogue, event_types: Sequence[str]) -> Histories:
        """The same events in another model's terms."""
        return Histories.from_events(self.events, catalogue, event_types)

    def text_vectors(self, catalogue: Catalogue) -> tuple[np.ndarray | None, str]:
        """float32 [num_items, dim] and the id of their space, or None; rows of zeros where an item had no text yet."""
        known = pl.col("event_timestamp") < self.split.test_start
        rows = self.text.filter(known, pl.col("space_id") == self.text_space)
        if rows.is_empty():
            return None, ""
        positions = catalogue.index_of(rows["item_id"].to_list())
        found = np.zeros((catalogue.num_items, len(rows["vector"][0])), dtype=np.float32)
        held = positions >= FIRST_ITEM
        found[positions[held]] = np.array(rows["vector"].to_list(), dtype=np.float32)[held]
        return found, self.text_space

    def dataset(self) -> Dataset:
        """The events as MLflow shows them."""
        return Dataset(
            BEHAVIOR_EVENTS.name,
            self.events.head(SAMPLE_ROWS).select("item_id", "event_type", "event_time", "value"),
            self.lake.path(BEHAVIOR_EVENTS),
            self.versions[BEHAVIOR_EVENTS.name],
        )


def read_training_data(as_of: datetime, settings: Settings) -> TrainingData:
    """Read events, items and text vectors as of a cutoff.

    Raises:
        BadPartition: no event lies before the validation window, so there is nothing to learn from.
        NotFound: items have text vectors, but none of the encoder in the settings.
    """
    rules = settings.evaluation
    split = TimeSplit.of(as_of, rules.test_days, rules.validation_days)
    lake = Lake.of(settings)
    tables = (BEHAVIOR_EVENTS, ITEMS, ITEM_TEXT, ITEM_VECTORS)
    versions = {table.name: number for table in tables if (number := lake.version(table)) is not None}
    last = Day.of(as_of - timedelta(microseconds=1))
    events = lake.scan(BEHAVIOR_EVENTS, None, last, versions.get(BEHAVIOR_EVENTS.name))
    events = events.filter(pl.col("event_time") < as_of).collect()
    if events.filter(pl.col("event_time") < split.validation_start).is_empty():
        first = f"the first is of {Day.of(events['event_time'].min())}" if events.height else "there is none"
        raise BadPartition(
            f"Training as of {Day.of(as_of)} learns from events before {Day.of(split.validation_start)}, but {first}. "
            "Load older logs, train as of a later day, or shorten evaluation.test_days and evaluation.validation_days."
        )
    return TrainingData(
        split=split,
        events=events,
        items=lake.scan(ITEMS, version=versions.get(ITEMS.name)).collect(),
        text=lake.scan(ITEM_TEXT, version=versions.get(ITEM_TEXT.name)).collect(),
        vectors=lake.scan(ITEM_VECTORS, version=versions.get(ITEM_VECTORS.name)).collect(),
        text_space=text_space(lake, settings),
        versions=versions,
        lake=lake,
    )
