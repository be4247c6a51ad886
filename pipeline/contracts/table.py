"""
The shape of a contract: a `Table` of `Column`s. It is data; validation, features, Feast and the docs read it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

UTC_TIME = pl.Datetime("us", "UTC")
PARTITION_COLUMN = "event_date"
"""The Delta partition column of every daily table: the day's key as text."""


@dataclass(frozen=True)
class Column:
    """One column: its type, what it means, and what values it may hold."""

    name: str
    dtype: pl.DataType
    meaning: str
    required: bool = True
    allowed: tuple[str, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    max_length: int | None = None
    when_null: str = ""
    """What a missing value says; empty where the column is required."""


def duration_of(promise: str) -> timedelta:
    """A promise as written (`90m`, `26h`, `7d`) as a duration; raises ValueError."""
    match = re.fullmatch(r"(\d+)([mhd])", promise)
    if match is None:
        raise ValueError(f"{promise!r} is no duration. Expected a number of minutes, hours or days: 90m, 26h, 7d.")
    return int(match[1]) * {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}[match[2]]


@dataclass(frozen=True)
class Table:
    """One table: what a row is, which columns name it, who answers for it.

    `daily` tables are partitioned by UTC day. A table that `keeps_versions` holds every version of a
    row, told apart by `created`; its readers take the newest (or the newest known at some time).
    """

    name: str
    grain: str
    key: tuple[str, ...]
    owner: str
    columns: tuple[Column, ...]
    daily: bool = True
    keeps_versions: bool = False
    freshness: str = "26h"
    """The promise: how old the newest row may become. A day's rows are followed by the next one's 24 hours later.

    Not how old every row may become: the row of a user who was away for a month is a month old, and true. Empty where
    no time is promised, because rows hold until what they describe changes.
    """

    @property
    def schema(self) -> dict[str, pl.DataType]:
        return {column.name: column.dtype for column in self.columns}

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def empty(self) -> pl.DataFrame:
        return pl.DataFrame(schema=self.schema)

    @property
    def version(self) -> str:
        """Changes when a column, a type or a bound of the contract changes."""
        facts = [
            (c.name, str(c.dtype), c.required, c.allowed, c.minimum, c.maximum, c.max_length) for c in self.columns
        ]
        return hashlib.sha256(repr((self.name, self.key, facts)).encode()).hexdigest()[:12]
