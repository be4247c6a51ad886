"""
Refills the online store from the lake: of every entity of every view, the newest version of its newest row.

The online store is a cache of the truth, so losing it loses nothing. Rows pass the fence like any other push: what
is served already, or was pushed by a step in the meantime, is never replaced by something older, and reads go on.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator

import polars as pl
from pydantic import BaseModel, ConfigDict

from pipeline.contracts import TABLES, Table
from pipeline.errors import NotFound
from pipeline.observability import get_logger
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.stores.tables import Lake, newest_versions

log = get_logger(__name__)

ROWS_AT_ONCE = 50_000
"""Rows of a table that are read together, unless one day has more."""


class RebuiltView(BaseModel):
    """One view. `refused` rows were served already, in this version or a newer one."""

    model_config = ConfigDict(frozen=True)

    view: str
    rows: int
    accepted: int
    refused: int
    seconds: float


class RebuiltOnline(BaseModel):
    """What a rebuild left behind."""

    model_config = ConfigDict(frozen=True)

    as_of: str
    views: tuple[RebuiltView, ...]
    seconds: float

    @property
    def rows(self) -> int:
        return sum(view.rows for view in self.views)


def rebuild_online(as_of: Day, settings: Settings, only: Collection[str] = ()) -> RebuiltOnline:
    """Push, of every entity, the newest row with an event time up to the end of `as_of`. Twice is the same as once.

    Args:
        only: the views to push; all where empty.

    Memory holds some days of one table at a time (`ROWS_AT_ONCE`), and the ids of the entities that are done.

    Raises:
        NotFound: a view is not applied.
        EngineFailure: the online store did not answer. What was pushed stays; worth a retry.
    """
    # Imported here: Feast takes seconds to load.
    from pipeline.stores.feature_store import apply_definitions, keys_of_views, prepare_online, push_online

    began = time.perf_counter()
    apply_definitions(settings)
    prepare_online(settings)
    lake = Lake.of(settings)
    tables = {table.name: table for table in TABLES}
    views = []
    keys = keys_of_views(settings)
    if unknown := sorted(set(only) - set(keys)):
        raise NotFound(f"No view is called {', '.join(unknown)}. Served are {', '.join(keys)}.")
    for view, key in keys.items():
        if only and view not in only:
            continue
        view_began, rows, accepted, refused = time.perf_counter(), 0, 0, 0
        for part in newest_rows(lake, tables[view], key, as_of):
            pushed = push_online(settings, view, part)
            rows, accepted, refused = rows + pushed.rows, accepted + pushed.accepted, refused + pushed.refused
        seconds = time.perf_counter() - view_began
        views.append(RebuiltView(view=view, rows=rows, accepted=accepted, refused=refused, seconds=seconds))
        log.info("view rebuilt online", **views[-1].model_dump())
    return RebuiltOnline(as_of=as_of.key, views=tuple(views), seconds=time.perf_counter() - began)


def newest_rows(
    lake: Lake, table: Table, key: str, as_of: Day, rows_at_once: int = ROWS_AT_ONCE, since: Day | None = None
) -> Iterator[pl.DataFrame]:
    """The newest row of every entity up to `as_of`, from `since` on where given, in parts, each entity in one part.

    From the newest day back: who is active gets a row first, and days on which nobody is new are read for their ids
    only. A table without days is a catalogue, and comes whole.
    """
    if not table.daily:
        yield lake.scan(table).filter(pl.col("event_timestamp") <= as_of.as_of).collect()
        return
    done: set[str] = set()
    sizes = {day: size for day, size in lake.rows_by_day(table).items() if since is None or day >= since}
    for first, last in _spans(sizes, as_of, rows_at_once):
        rows = lake.scan(table, first, last)
        newest = rows.group_by(key).agg(pl.col("event_timestamp").max()).collect()
        fresh = newest.filter(pl.Series([entity not in done for entity in newest[key]], dtype=pl.Boolean))
        if fresh.height:
            done.update(fresh[key])
            yield newest_versions(table, rows.join(fresh.lazy(), on=[key, "event_timestamp"], how="semi")).collect()


def _spans(rows: dict[Day, int], as_of: Day, rows_at_once: int) -> Iterator[tuple[Day, Day]]:
    """Spans of days from the newest back, each of one day or of at most `rows_at_once` rows."""
    first = last = None
    inside = 0
    for day in sorted((day for day in rows if day <= as_of), reverse=True):
        if last is not None and inside + rows[day] > rows_at_once:
            yield first, last
            last, inside = None, 0
        last, first, inside = last or day, day, inside + rows[day]
    if last is not None:
        yield first, last
