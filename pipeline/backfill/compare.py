"""
Compares what a partition would hold with what stands, and judges whether that is within the tolerance. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
from pydantic import BaseModel, ConfigDict

from pipeline.backfill.content import CLOCKS
from pipeline.backfill.distances import cosine, edit_distance, is_sequence, is_vector
from pipeline.contracts import Table
from pipeline.settings import Backfill

MEASURED = 500
"""Rows whose sequences are measured, of those that differ."""
SAME = 1 - 1e-6
"""From this cosine on, two vectors say the same: the last bits differ between machines."""


class Difference(BaseModel):
    """One partition, before and after. Rows are paired by the table's key."""

    model_config = ConfigDict(frozen=True)

    table: str
    day: str
    standing: int
    wanted: int
    added: int
    removed: int
    changed: int
    columns: dict[str, int]
    """Rows that differ, by column."""
    mean_edit_distance: float | None = None
    """Of the sequences that differ; 1: nothing in common. None where none differs."""
    mean_cosine: float | None = None

    @property
    def share(self) -> float:
        """Of the rows that stand, the part that would be added, removed or changed."""
        return (self.added + self.removed + self.changed) / max(self.standing, 1)

    def beyond(self, tolerance: Backfill) -> list[str]:
        """In words, what is above the tolerance; empty where nothing is, and where nothing stood."""
        return list(self._beyond(tolerance)) if self.standing else []

    def _beyond(self, tolerance: Backfill) -> Iterator[str]:
        drift = abs(self.wanted - self.standing) / self.standing
        if drift > tolerance.max_row_change:
            limit = f"{tolerance.max_row_change:.1%} more or less"
            yield f"{self.standing:,} rows would become {self.wanted:,} (limit {limit})"
        if self.share > tolerance.max_changed_share:
            columns = ", ".join(f"{name} {rows:,}" for name, rows in self.columns.items())
            yield (
                f"{self.share:.1%} of the rows would differ (limit {tolerance.max_changed_share:.1%}"
                f"{f'; by column: {columns}' if columns else ''})"
            )
        if self.mean_edit_distance is not None and self.mean_edit_distance > tolerance.max_edit_distance:
            yield f"mean edit distance {self.mean_edit_distance:.2f} (limit {tolerance.max_edit_distance:.2f})"
        if self.mean_cosine is not None and self.mean_cosine < tolerance.min_cosine:
            yield f"mean cosine of vectors {self.mean_cosine:.4f} (limit {tolerance.min_cosine:.4f})"


def compare_partition(table: Table, day: str, standing: pl.DataFrame, wanted: pl.DataFrame) -> Difference:
    """What would change.

    Args:
        standing, wanted: one row a key, in the contract's columns; when each was written is not compared.
    """
    keys = list(table.key)
    names = [name for name in table.names if name not in (*keys, *CLOCKS)]
    one, other = standing.select(keys + names), wanted.select(keys + names)
    pairs = one.join(other, on=keys, how="inner", suffix="_wanted").sort(keys)
    distances: list[float] = []
    cosines: list[float] = []
    columns: dict[str, pl.Series] = {}
    for name in names:
        differs = pairs.select(pl.col(name).ne_missing(pl.col(f"{name}_wanted"))).to_series()
        found = pairs.filter(differs).select(name, f"{name}_wanted")
        if is_vector(table.schema[name]):
            measured = [cosine(a or [], b or []) for a, b in found.iter_rows()]
            others = [place for place, value in zip(differs.arg_true(), measured, strict=True) if value < SAME]
            differs = pl.int_range(pairs.height, eager=True).is_in(others)
            cosines += [value for value in measured if value < SAME]
        elif is_sequence(table.schema[name]):
            distances += [edit_distance(a or [], b or []) for a, b in found.head(MEASURED).iter_rows()]
        if differs.any():
            columns[name] = differs
    changed = pl.DataFrame(columns).select(pl.any_horizontal(pl.all())).to_series().sum() if columns else 0
    return Difference(
        table=table.name,
        day=day,
        standing=one.height,
        wanted=other.height,
        added=other.height - pairs.height,
        removed=one.height - pairs.height,
        changed=int(changed),
        columns={name: int(differs.sum()) for name, differs in columns.items()},
        mean_edit_distance=_mean(distances),
        mean_cosine=_mean(cosines),
    )


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
