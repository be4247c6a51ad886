"""
Compares what is served with what the tables say, value by value. Pure: it is given both sides.

A row that differs says by how much: a sequence by its edit distance (0: equal, 1: nothing in common), a vector by the
cosine of the angle between the two.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from pipeline.backfill.distances import cosine, edit_distance, is_sequence, is_vector
from pipeline.contracts import UTC_TIME, Table

CREATED = "created"
MOMENT = "event_timestamp"


@dataclass(frozen=True)
class ViewParity:
    """One view. sampled = equal + mismatched + missing + extra."""

    view: str
    sampled: int = 0
    equal: int = 0
    mismatched: int = 0
    missing: int = 0
    """In the table and not served."""
    extra: int = 0
    """Served and not in the table."""
    mismatched_columns: tuple[str, ...] = ()
    largest_edit_distance: float | None = None
    least_cosine: float | None = None
    differing: tuple[str, ...] = field(default=(), repr=False)
    """The keys that are not equal, in order."""

    @property
    def differing_share(self) -> float:
        """0 where nothing was sampled."""
        return len(self.differing) / self.sampled if self.sampled else 0.0


def compare(table: Table, key: str, offline: pl.DataFrame, served: pl.DataFrame) -> ViewParity:
    """Judge the served rows of a view by the newest offline rows of the same entities.

    Args:
        key: the column that names the entity; once in each frame.
        offline, served: the contract's columns, `created` aside, which is not served.
    """
    names = [name for name in table.names if name not in (key, CREATED)]
    pairs = _comparable(table, key, offline).join(
        _comparable(table, key, served), on=key, how="full", coalesce=True, suffix="_served"
    )
    pairs = pairs.sort(key)
    is_missing, is_extra = pl.col(f"{MOMENT}_served").is_null(), pl.col(MOMENT).is_null()
    differs = {name: pl.col(name).ne_missing(pl.col(f"{name}_served")) for name in names}
    both = pairs.filter(~is_missing & ~is_extra)
    wrong = both.filter(pl.any_horizontal(differs.values()))
    columns = tuple(name for name in names if wrong.select(differs[name].any()).item())
    distances = [
        edit_distance(one, other)
        for name in columns
        if is_sequence(table.schema[name])
        for one, other in wrong.filter(differs[name]).select(name, f"{name}_served").iter_rows()
    ]
    cosines = [
        cosine(one, other)
        for name in columns
        if is_vector(table.schema[name])
        for one, other in wrong.filter(differs[name]).select(name, f"{name}_served").iter_rows()
    ]
    missing, extra = pairs.filter(is_missing), pairs.filter(is_extra)
    return ViewParity(
        view=table.name,
        sampled=pairs.height,
        equal=both.height - wrong.height,
        mismatched=wrong.height,
        missing=missing.height,
        extra=extra.height,
        mismatched_columns=columns,
        largest_edit_distance=max(distances, default=None),
        least_cosine=min(cosines, default=None),
        differing=tuple(sorted(value for frame in (wrong, missing, extra) for value in frame[key])),
    )


def _comparable(table: Table, key: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Both sides as they can be served: Feast keeps feature times to the second."""
    columns = [pl.col(key)]
    for name, dtype in table.schema.items():
        if name in (key, CREATED):
            continue
        column = pl.col(name).cast(dtype)
        if dtype == UTC_TIME and name != MOMENT:
            column = column.dt.truncate("1s")
        elif dtype == pl.List(UTC_TIME):
            column = column.list.eval(pl.element().dt.truncate("1s"))
        columns.append(column)
    return frame.select(columns)
