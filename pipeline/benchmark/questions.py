"""
The split of a benchmark: who is asked about what, and which items may be answered.

    time             | train ......... | validation | test ... |   borders are quantiles of the events' times
    leave-one-out    of each user: all but the last two | the last but one | the last

Under a split by time an event at the very moment of a border is after it. Leave-one-out is the strict protocol of the
S3-Rec papers: a user's items once each, in order; users with fewer than three take part in training only; weights
are learned from `train` alone, and the validation item is read, but not learned from, at the test.

The catalogue is every item with an event in `known`, and every item of which a title, a category or a vector is known:
the latter, without an event, are the cold items, and only a model that reads those can tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from pipeline.benchmark.log import BenchmarkLog
from pipeline.contracts import ITEM_VECTORS, UNKNOWN_TITLE, UTC_TIME
from pipeline.errors import BadSetting, ContractViolation
from pipeline.features.histories import EPOCH, FIRST_ITEM, Catalogue, Histories

TIME, LEAVE_ONE_OUT = "time", "leave-one-out"
VALIDATION_SHARE = 0.1
"""Of the events before the test, under a split by time."""


@dataclass(frozen=True)
class BenchmarkSplit:
    """The same users in the same order everywhere."""

    kind: str
    catalogue: Catalogue = field(repr=False)
    train: Histories = field(repr=False)
    validation: Histories = field(repr=False)
    known: Histories = field(repr=False)
    """train and validation"""
    test: Histories = field(repr=False)
    validation_start: datetime
    test_start: datetime
    """the moment at which models are asked; for leave-one-out just after everything that is known"""

    @property
    def fitted(self) -> Histories:
        """What models without a validation of their own may learn from."""
        return self.known if self.kind == TIME else self.train


def split_log(log: BenchmarkLog, kind: str, quantile: float) -> BenchmarkSplit:
    """Raises BadSetting for an impossible split, ContractViolation where nobody is left to be asked."""
    if kind not in (TIME, LEAVE_ONE_OUT):
        raise BadSetting(f"The split {kind!r} is unknown. Expected {TIME} or {LEAVE_ONE_OUT}.")
    if not 0.1 <= quantile <= 0.99:
        raise BadSetting(f"The quantile is {quantile}. Expected a number from 0.1 to 0.99.")
    types = tuple(sorted(log.events["event_type"].unique()))
    described = log.items.sort("item_id", "valid_from").unique("item_id", keep="first", maintain_order=True)
    shown = pl.col("item_id").is_in(log.vectors["item_id"].unique().implode())
    described = described.filter((pl.col("title") != UNKNOWN_TITLE) | (pl.col("categories").list.len() > 0) | shown)
    described = described.with_columns(pl.lit(EPOCH).cast(UTC_TIME).alias("valid_from"))
    vectors = log.vectors.sort(ITEM_VECTORS.key).unique(["item_id", "modality"], keep="first", maintain_order=True)
    vectors = vectors.with_columns(pl.lit(EPOCH).cast(UTC_TIME).alias("valid_from"))
    if kind == TIME:
        times = log.events["event_time"].dt.epoch("us").to_numpy()
        border = _moment(np.quantile(times, quantile, method="higher"))
        before = _moment(np.quantile(times, quantile * (1 - VALIDATION_SHARE), method="lower"))
        catalogue = Catalogue.from_frames(described, log.events.filter(pl.col("event_time") < border))
        catalogue = catalogue.with_vectors(vectors, border)
        everything = Histories.from_events(log.events, catalogue, types)
        split = BenchmarkSplit(
            kind, catalogue, everything.before(before), everything.between(before, border), everything.before(border),
            everything.keep(everything.times >= _microseconds(border)), before, border,
        )
    else:
        once = log.events.sort("user_id", "event_time", "event_id").unique(
            ["user_id", "item_id"], keep="first", maintain_order=True
        )
        ahead = pl.int_range(pl.len()).reverse().over("user_id")
        enough = pl.len().over("user_id") >= 3
        part = pl.when(~enough | (ahead >= 2)).then(0).when(ahead == 1).then(1).otherwise(2)
        once = once.with_columns(part.alias("part"))
        known_items = once.filter(pl.col("part") < 2)
        catalogue = Catalogue.from_frames(described, known_items.drop("part"))
        catalogue = catalogue.with_vectors(vectors, EPOCH + timedelta(microseconds=1))
        everything = Histories.from_events(once, catalogue, types)
        parts = once.sort("user_id", "event_time", "event_id")["part"].to_numpy()
        known = everything.keep(parts < 2)
        end = EPOCH + timedelta(microseconds=int(known.times.max(initial=0)) + 1)
        split = BenchmarkSplit(
            kind, catalogue, everything.keep(parts == 0), everything.keep(parts == 1), known,
            everything.keep(parts == 2), end, end,
        )
    for name, histories in (("training", split.train), ("validation", split.validation), ("test", split.test)):
        if not histories.num_events:
            raise ContractViolation(
                f"The {kind} split leaves no event for {name}. It needs users with three events or more, or another "
                f"--quantile (it is {quantile})."
            )
    return split


def _moment(microseconds: float) -> datetime:
    return EPOCH + timedelta(microseconds=int(microseconds))


def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def facts_of(split: BenchmarkSplit) -> dict[str, object]:
    """Sizes, for the report."""
    trained = np.unique(split.fitted.items[split.fitted.items >= FIRST_ITEM])
    return {
        "split": split.kind,
        "users": int((split.train.followed_by(split.test).lengths > 0).sum()),
        "items": split.catalogue.num_items - FIRST_ITEM,
        "items_without_training_event": split.catalogue.num_items - FIRST_ITEM - len(trained),
        "train_events": split.train.num_events,
        "validation_events": split.validation.num_events,
        "test_events": split.test.num_events,
        "validation_start": split.validation_start.isoformat(),
        "test_start": split.test_start.isoformat(),
    }
