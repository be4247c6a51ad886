"""What is said of a commit to a table: what it is to hold, what it left behind, and who may not come back with it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import polars as pl

from pipeline.contracts import Table
from pipeline.partitions import Day


@dataclass(frozen=True)
class Committed:
    """What a write left behind: the table's version now, and whether this call made it."""

    version: int
    rows: int
    changed: bool
    erased: int = 0
    """Rows that were not written because their user was erased."""


@dataclass(frozen=True)
class Settled:
    """What a range of days is to hold, before it is written."""

    rows: pl.DataFrame
    erased: int
    """Rows that are left out because their user was erased."""
    stands: bool
    """The table holds it already."""
    withdrawn: pl.DataFrame
    """Of a table that keeps versions, those of the rows that go."""


class Erasures(Protocol):
    """Knows who was erased (`pipeline.stores.tombstones`)."""

    def is_empty(self) -> bool:
        """Whether nobody was."""
        ...

    def erased_rows(self, table: Table, rows: pl.DataFrame) -> pl.Series:
        """A mask: the rows that may not be written."""
        ...

    def read_once(self) -> AbstractContextManager[None]:
        """Within it, who was erased is read once; raises EngineFailure at its end where somebody was meanwhile."""
        ...


@dataclass(frozen=True)
class Commit:
    """One commit of a table: the days that it replaced (None: the whole table), and what its writer noted."""

    version: int
    at: datetime
    first: Day | None
    last: Day | None
    note: dict[str, str]
