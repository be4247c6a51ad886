"""
Turns published events into the daily rows of `sequence_features` and `interest_windows`, and pushes them online.

A day and a whole history are built by the same function. A row depends on the user's row before it, so when a
restated day changes a user, that user's rows on later days are restated too, in the same commit: days may be built
in any order, and repeated, and end the same.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl
from pydantic import BaseModel, ConfigDict

from pipeline.contracts import (
    BEHAVIOR_EVENTS,
    INTEREST_WINDOWS,
    PARTITION_COLUMN,
    SEQUENCE_FEATURES,
    Table,
    withdrawn_rows_of,
)
from pipeline.errors import LogsMissing
from pipeline.observability import get_logger
from pipeline.partitions import Day, days_between, run_key_of
from pipeline.settings import Settings
from pipeline.steps.bulk_features import build_in_bulk
from pipeline.steps.feature_lines import fresh_lines, lines_of
from pipeline.steps.feature_state import (
    BuiltFeatures,
    Extend,
    dated,
    definitions_of,
    events_of,
    newest_before,
    of_days,
    stamped,
)
from pipeline.steps.ledger_news import catch_up
from pipeline.stores.ledger import Ledger, PartitionRecord, note_of
from pipeline.stores.locks import alone
from pipeline.stores.newest_days import index_newest_days
from pipeline.stores.pushed import PushedRows
from pipeline.stores.tables import Committed, Lake

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FEATURES = (SEQUENCE_FEATURES, INTEREST_WINDOWS)

log = get_logger(__name__)


class PublishedFeatures(BaseModel):
    """One day, offline and online."""

    model_config = ConfigDict(frozen=True)

    built: BuiltFeatures
    pushed: tuple[PushedRows, ...]


def publish_features(day: Day, settings: Settings, known_at: datetime, push: bool = True) -> PublishedFeatures:
    """Build one day and, with `push`, push it online. Twice is the same as once, also after a crash between the two.

    Raises:
        LogsMissing: no event was ever published. Worth a retry.
        NotFound: the feature definitions were not applied.
        EngineFailure: the online store did not answer. Worth a retry.
    """
    built = build_features(day, settings, known_at)
    return PublishedFeatures(built=built, pushed=push_features(day, settings) if push else ())


def build_features(day: Day, settings: Settings, known_at: datetime, only: Collection[str] = ()) -> BuiltFeatures:
    """Replace one day of both tables. Twice is the same as once; a crash leaves the old partition.

    Args:
        only: names of tables; of the two, the other one is not touched.

    Raises:
        LogsMissing: no event was ever published. Worth a retry.
    """
    return build_history(day, day, settings, known_at, only=only)


def build_history(
    first: Day,
    last: Day,
    settings: Settings,
    known_at: datetime,
    session: SparkSession | None = None,
    only: Collection[str] = (),
) -> BuiltFeatures:
    """Replace a range of days of both tables in one pass, one commit for each table; equal to day by day.

    Args:
        session: where the engine is Spark, the one to use; else it is begun and ended here, by `spark_master`.
        only: names of tables; with some, of the two only these are written, in memory.

    Raises:
        BadPartition: the range is reversed.
        LogsMissing: no event was ever published. Worth a retry.
    """
    days = list(days_between(first, last))
    lake = Lake.of(settings)
    if not lake.exists(BEHAVIOR_EVENTS):
        raise LogsMissing(f"{BEHAVIOR_EVENTS.name} does not exist yet, so {first} has no events. Publish them first.")
    definitions = {t: extend for t, extend in definitions_of(lake, settings).items() if not only or t.name in only}
    with alone(settings, "sequence_features"):
        ledger = Ledger(settings.ledger_url)
        catch_up(lake, ledger, *definitions)
        if first != last and not only and (bulk := build_in_bulk(settings, lake, definitions, days, known_at, session)):
            index_newest_days(lake, FEATURES)
            return bulk
        events = events_of(lake, first, last, settings).collect()
        restated = {
            table: _restate(settings, lake, ledger, table, days, events, extend, known_at)
            for table, extend in definitions.items()
        }
        parts = restated.items()
        ledger.record_partitions([line for t, p in parts for line in fresh_lines(ledger, t, p.lines, p.committed)])
        index_newest_days(lake, FEATURES)
    built = BuiltFeatures(
        first=first.key,
        last=last.key,
        events=events.height,
        users=events["user_id"].n_unique(),
        rows=max(part.rows for part in restated.values()),
        later_rows=max(part.later_rows for part in restated.values()),
        changed=any(part.committed.changed for part in restated.values()),
        versions={table.name: part.committed.version for table, part in restated.items()},
    )
    log.info("features built", **built.model_dump())
    return built


def draft_features(
    day: Day, settings: Settings, known_at: datetime, published: pl.DataFrame | None = None
) -> dict[Table, pl.DataFrame]:
    """What a build of the day would write into both tables. Nothing is written.

    Args:
        published: the day's rows of `behavior_events`, where these are a draft, too.
    """
    lake = Lake.of(settings)
    events = lake.scan(BEHAVIOR_EVENTS, day.plus(-1), day)
    if published is not None:
        before = lake.scan(BEHAVIOR_EVENTS, day.plus(-1), day.plus(-1))
        events = pl.concat([before, published.select(BEHAVIOR_EVENTS.names).lazy()])
    found = of_days(events, day, day, settings).collect()
    users = found.select("user_id").unique()
    return {
        table: stamped(table, extend(newest_before(lake, table, users, day), found), known_at).select(table.names)
        for table, extend in definitions_of(lake, settings).items()
    }


def push_features(first: Day, settings: Settings, last: Day | None = None) -> tuple[PushedRows, ...]:
    """Push the newest row of every user who has, or had, a row from `first` to `last` (default: that one day).

    That row may lie after `last`; where it is served already, it is refused. Whoever lost a row of these days to a
    correction has other rows after them, so it is offered for them, too.

    Raises:
        NotFound: the feature definitions were not applied.
        EngineFailure: the online store did not answer. Worth a retry.
    """
    # Imported here: Feast takes seconds to load, and building needs none of it.
    from pipeline.stores.feature_store import push_online

    lake = Lake.of(settings)
    pushed = []
    for table in FEATURES:
        tables = (table, withdrawn_rows_of(table))
        users = pl.concat([lake.scan(t, first, last or first).select("user_id") for t in tables]).unique()
        rows = lake.scan(table, first).join(users, on="user_id", how="semi")
        newest = rows.group_by("user_id").agg(pl.col("event_timestamp").max())
        newest = rows.join(newest, on=["user_id", "event_timestamp"], how="semi")
        pushed.append(push_online(settings, table.name, newest.collect()))
    log.info("features pushed", partition=first.key, pushed=[rows.model_dump() for rows in pushed])
    return tuple(pushed)


class _Restated(BaseModel):
    """One table after its commit: a ledger line for each day asked for, and for each later one restated."""

    model_config = ConfigDict(frozen=True)

    committed: Committed
    lines: tuple[PartitionRecord, ...]
    rows: int
    later_rows: int


def _restate(
    settings: Settings,
    lake: Lake,
    ledger: Ledger,
    table: Table,
    days: list[Day],
    events: pl.DataFrame,
    extend: Extend,
    known_at: datetime,
) -> _Restated:
    """Write the days' rows, and the later rows that follow from them, in one commit that carries its ledger lines."""
    first, last = days[0], days[-1]
    before = newest_before(lake, table, events.select("user_id").unique(), first)
    rows = stamped(table, extend(before, events), known_at)
    later_days = [day for day in lake.days(table) if day > last]
    stale, later, end = table.empty().select("user_id"), pl.DataFrame(), last
    if later_days:
        standing = lake.current(table, first, last).collect()
        differing = _users_that_differ(table, standing, rows)
        their_later_rows = lake.scan(table, later_days[0]).join(differing.lazy(), on="user_id", how="semi")
        stale = their_later_rows.select("user_id").unique().collect()
    if stale.height:
        end = later_days[-1]
        others = lake.current(table, later_days[0]).join(stale.lazy(), on="user_id", how="anti").collect()
        later = _later_rows(settings, lake, table, rows, stale, first, later_days, extend, known_at)
        rows = pl.concat([rows, dated(others), later])
    by_day = dict(rows.group_by(PARTITION_COLUMN).len().iter_rows())
    touched = later[PARTITION_COLUMN].unique().sort().to_list() if stale.height else []
    lines = lines_of(settings, ledger, table, days, touched, rows, events, known_at)
    note = {"run": run_key_of(table.name, first.start), **note_of(lines)}
    committed = lake.replace_range(table, first, end, rows, note, known_at)
    return _Restated(
        committed=committed,
        lines=tuple(lines),
        rows=sum(by_day.get(day.key, 0) for day in days),
        later_rows=later.height,
    )


def _later_rows(
    settings: Settings,
    lake: Lake,
    table: Table,
    rows: pl.DataFrame,
    stale: pl.DataFrame,
    first: Day,
    later_days: list[Day],
    extend: Extend,
    known_at: datetime,
) -> pl.DataFrame:
    """The rows of `stale` users on the later days that were built, from the state that the new rows leave."""
    standing = newest_before(lake, table, stale, first)
    newest = pl.concat([standing, rows.select(table.names)]).sort("user_id", "event_timestamp")
    newest = newest.unique("user_id", keep="last", maintain_order=True)
    built = pl.DataFrame({PARTITION_COLUMN: [day.key for day in later_days]})
    events = events_of(lake, later_days[0], later_days[-1], settings)
    events = events.join(stale.lazy(), on="user_id", how="semi")
    events = events.with_columns(pl.col("event_time").dt.date().cast(pl.String).alias(PARTITION_COLUMN))
    events = events.join(built.lazy(), on=PARTITION_COLUMN, how="semi").drop(PARTITION_COLUMN).collect()
    return stamped(table, extend(newest, events), known_at)


def _users_that_differ(table: Table, standing: pl.DataFrame, wanted: pl.DataFrame) -> pl.DataFrame:
    """The users with a row that appeared, went, or says something else (when it was written aside)."""
    keys, content = list(table.key), [name for name in table.names if name not in (*table.key, "created")]
    both = standing.join(wanted.select(table.names), on=keys, how="full", coalesce=True, suffix="_wanted")
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_wanted")) for name in content)
    return both.filter(~same).select("user_id").unique()
