"""
The point-in-time join over Delta: for every row asked for, the newest feature row of its entity at its moment.

A table is read twice, and never whole. First its keys and clocks, of the days and entities that matter: they say which
row answers. Then the features, from the files that hold such a row, of these rows alone.

A row is newer than another when its event time is later; at the same event time, when it was created later. It is seen
from its event time on; as known, not before it was created either, nor after it was withdrawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import ceil

import numpy as np
import polars as pl
from deltalake import DeltaTable

from pipeline.contracts import PARTITION_COLUMN, WITHDRAWN_AT, Table
from pipeline.partitions import Day
from pipeline.stores.declarations import CREATED, EVENT_TIME

ROW = "__row"
NUMBER = "__number"
PLACE = "__place"
MOMENT = "__moment"
SEEN = "__seen_from"
AGE = "__age"
ROWS_AT_ONCE = 10_000_000
"""Rows of a table whose clocks are looked at together; where there are more, they are cut by entity."""


@dataclass(frozen=True)
class Snapshot:
    """The files of one version of a table, in the order of their days, and how many rows each holds."""

    table: Table
    files: tuple[str, ...] = ()
    days: tuple[str, ...] = ()
    """Of each file, its day; empty texts for a table without days."""
    rows: tuple[int, ...] = ()
    storage_options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, table: Table, path: str, version: int | None, storage_options: dict[str, str]) -> Snapshot:
        """A version of the table at `path`, the newest where None. Raises DeltaError, OSError."""
        delta = DeltaTable(path, version=version, storage_options=storage_options)
        told = pl.DataFrame(delta.get_add_actions(flatten=True))
        on = f"partition.{PARTITION_COLUMN}"
        days = told[on].cast(pl.String) if on in told.columns else [""] * told.height
        facts = {
            _name(place): (day, rows) for place, day, rows in zip(told["path"], days, told["num_records"], strict=True)
        }
        live = []
        for uri in delta.file_uris():
            day, rows = facts[_name(uri)]
            if rows is None:
                rows = pl.scan_parquet(uri, storage_options=storage_options or None).select(pl.len()).collect().item()
            live.append((day, rows, uri))
        live.sort()
        days, rows, files = zip(*live, strict=True) if live else ((), (), ())
        return cls(table, files, days, rows, storage_options)

    def within(self, first: datetime | None, last: datetime) -> Snapshot:
        """Without the files of days that hold no event time in this range (open at the start where None)."""
        least, greatest = "" if first is None else Day.of(first).key, Day.of(last).key
        return self._only([at for at, day in enumerate(self.days) if not day or least <= day <= greatest])

    def beside(self, other: Snapshot) -> Snapshot:
        """The rows of both. What only the contract of `other` has is null in the rows of this one."""
        files = [*zip(self.days, self.rows, self.files, strict=True)]
        files = sorted([*files, *zip(other.days, other.rows, other.files, strict=True)])
        days, rows, names = zip(*files, strict=True) if files else ((), (), ())
        return replace(other, files=names, days=days, rows=rows)

    def holding(self, rows: np.ndarray) -> tuple[Snapshot, np.ndarray]:
        """The files that hold a row of these numbers, and the rows' numbers there. `rows` is in order."""
        ends = np.cumsum(self.rows, dtype=np.int64)
        file = np.searchsorted(ends, rows, side="right")
        kept, which = np.unique(file, return_inverse=True)
        smaller = self._only(kept.tolist())
        before = np.concatenate([[0], np.cumsum(smaller.rows, dtype=np.int64)])
        return smaller, rows - (ends - self.rows)[file] + before[which]

    def scan(self, columns: Sequence[str]) -> pl.LazyFrame:
        """These columns in the contract's types, and the number of each row."""
        if not self.files:
            return self.table.empty().lazy().with_row_index(ROW).select(ROW, *columns)
        frame = pl.scan_parquet(
            list(self.files),
            schema=self.table.schema,
            row_index_name=ROW,
            missing_columns="insert",
            extra_columns="ignore",
            hive_partitioning=False,
            storage_options=self.storage_options or None,
        )
        return frame.select(ROW, *columns)

    def _only(self, which: Sequence[int]) -> Snapshot:
        return replace(
            self,
            files=tuple(self.files[at] for at in which),
            days=tuple(self.days[at] for at in which),
            rows=tuple(self.rows[at] for at in which),
        )


def _name(place: str) -> str:
    return place.rpartition("/")[2]


@dataclass(frozen=True)
class JoinedView:
    """What of a table is joined, and by which column of the rows that are asked for."""

    snapshot: Snapshot
    key: str
    """The entity's column in the table."""
    asked_by: str
    """The entity's column in the rows that are asked for."""
    features: dict[str, str]
    """Columns of the table, each with its name in the answer."""
    ttl: timedelta | None = None
    """How long after its event time a row still answers; for ever where None."""

    def near(self, moments: pl.Series) -> JoinedView:
        """The same over the files that may hold an answer at one of these moments."""
        if not len(moments):
            return replace(self, snapshot=replace(self.snapshot, files=(), days=(), rows=()))
        first = None if self.ttl is None else moments.min() - self.ttl
        return replace(self, snapshot=self.snapshot.within(first, moments.max()))

    def answering(self, asked: pl.DataFrame, as_known: bool) -> np.ndarray:
        """For every row of `asked` (an entity, a MOMENT), the number of the row that answers it, or -1."""
        found = np.full(asked.height, -1, dtype=np.int64)
        parts = max(1, ceil(sum(self.snapshot.rows) / ROWS_AT_ONCE))
        entities = asked.select(pl.col(self.key).unique()).with_row_index(NUMBER)
        asked = asked.with_row_index(PLACE).join(entities, on=self.key).sort(MOMENT)
        for part in range(parts):
            mine = asked.filter(pl.col(NUMBER) % parts == part)
            rows = self._clocks(entities.filter(pl.col(NUMBER) % parts == part))
            if WITHDRAWN_AT in rows.columns:
                rows, withdrawn = _with_and_without_withdrawals(rows)
                self._fill(found, _seen_until(mine, withdrawn))
            self._fill(
                found,
                mine.join_asof(
                    _by_time_seen(rows, as_known),
                    left_on=MOMENT,
                    right_on=SEEN,
                    by=NUMBER,
                    strategy="backward",
                    check_sortedness=False,
                ).drop_nulls(ROW),
            )
        return found

    def _fill(self, found: np.ndarray, pairs: pl.DataFrame) -> None:
        if self.ttl is not None:
            pairs = pairs.filter(pl.col(EVENT_TIME) + self.ttl >= pl.col(MOMENT))
        found[pairs[PLACE].to_numpy()] = pairs[ROW].to_numpy()

    def _clocks(self, entities: pl.DataFrame) -> pl.DataFrame:
        """The rows of these entities, the newest last; when they were withdrawn, where the snapshot has such rows."""
        clocks = [EVENT_TIME, CREATED, *([WITHDRAWN_AT] if WITHDRAWN_AT in self.snapshot.table.names else [])]
        rows = self.snapshot.scan([self.key, *clocks]).join(entities.lazy(), on=self.key)
        return rows.select(NUMBER, ROW, *clocks).collect(engine="streaming").sort(EVENT_TIME, CREATED)

    def values_of(self, answers: np.ndarray) -> pl.DataFrame:
        """The features of these rows, by the names they have in the answer; nulls for -1."""
        numbers = np.unique(answers[answers >= 0])
        holding, within = self.snapshot.holding(numbers)
        wanted = pl.DataFrame({ROW: within}, schema={ROW: pl.get_index_type()})
        columns = holding.scan(list(self.features)).join(wanted.lazy(), on=ROW, how="semi")
        rows = columns.collect(engine="streaming")
        places = np.append(rows[ROW].arg_sort().to_numpy(), -1)
        at = pl.Series(places[np.where(answers < 0, -1, np.searchsorted(numbers, answers))])
        at = at.set(at < 0, None)
        return rows.select(pl.col(name).gather(at).alias(given) for name, given in self.features.items())


def _by_time_seen(rows: pl.DataFrame, as_known: bool) -> pl.DataFrame:
    """The rows that are ever the newest one seen of their entity, by the time from which they are."""
    if not as_known:
        return rows.select(NUMBER, ROW, EVENT_TIME, pl.col(EVENT_TIME).alias(SEEN))
    rows = rows.with_columns(pl.max_horizontal(EVENT_TIME, CREATED).alias(SEEN)).with_row_index(AGE)
    rows = rows.sort(SEEN, AGE)
    newest = pl.col(AGE) == pl.col(AGE).cum_max().over(NUMBER)
    return rows.filter(newest).select(NUMBER, ROW, EVENT_TIME, SEEN)


def _with_and_without_withdrawals(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of entities that never lost one, and those of the others. A row that stands, too, was not withdrawn."""
    stands = pl.col(WITHDRAWN_AT).is_null()
    rows = rows.filter(stands | ~stands.any().over(NUMBER, EVENT_TIME, CREATED))
    lost = rows.filter(~stands).select(NUMBER).unique()
    return rows.join(lost, on=NUMBER, how="anti"), rows.join(lost, on=NUMBER, how="semi", maintain_order="left")


def _seen_until(asked: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Of each row of `asked`, the newest row that was known at its moment and not withdrawn by then."""
    pairs = asked.join(rows, on=NUMBER).filter(
        pl.col(EVENT_TIME) <= pl.col(MOMENT),
        pl.col(CREATED) <= pl.col(MOMENT),
        pl.col(WITHDRAWN_AT).is_null() | (pl.col(WITHDRAWN_AT) > pl.col(MOMENT)),
    )
    return pairs.sort(EVENT_TIME, CREATED).unique(PLACE, keep="last")


def joined_at(asked: pl.DataFrame, moment: str, views: Iterable[JoinedView], as_known: bool) -> pl.DataFrame:
    """`asked`, row by row in its order, with the features of every view; null where there was nothing.

    Args:
        moment: the column with the time of each row.
        as_known: leave out what was created after a row's time, and see what was withdrawn after it. For the latter
            the views' snapshots hold the withdrawn rows, too (`Snapshot.beside`).
    """
    parts = [asked]
    for view in views:
        keys = asked.select(pl.col(view.asked_by).alias(view.key), pl.col(moment).alias(MOMENT))
        near = view.near(keys[MOMENT])
        parts.append(near.values_of(near.answering(keys, as_known)))
    return pl.concat(parts, how="horizontal")
