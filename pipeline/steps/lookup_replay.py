"""
Compares answers that were given with what the tables, point in time, say should have been answered.

An answer is right when it is the user's newest row as the tables knew it when it was asked, or as they knew it
`lookups.push_minutes` before: a row may have been on its way to the online store.
"""

from __future__ import annotations

import dataclasses
import json
import time
from datetime import datetime, timedelta

import polars as pl
from pydantic import BaseModel, ConfigDict

from pipeline.contracts import LOOKUP_LOG, LOOKUP_PARITY, TABLES, UTC_TIME, Table
from pipeline.observability import get_logger
from pipeline.partitions import Day, days_between
from pipeline.serving.parity import ViewParity, compare
from pipeline.settings import Settings
from pipeline.steps.online_parity import in_words, looked_at_again, record_parity
from pipeline.stores.ledger import Ledger
from pipeline.stores.tables import Lake

USER, ASKED = "user_id", "asked_at"

log = get_logger(__name__)


class ReplayedAnswers(BaseModel):
    """The answers of one view to one service on one day."""

    model_config = ConfigDict(frozen=True)

    day: str
    service: str
    parity: ViewParity
    """Its `differing` are ids of look-ups."""


class ReplayedLookups(BaseModel):
    """What a replay found."""

    model_config = ConfigDict(frozen=True)

    answers: tuple[ReplayedAnswers, ...]
    failures: tuple[str, ...]
    """What differs more than `parity.max_differing` allows, in words."""
    changed: bool
    seconds: float


def replay_lookups(first: Day, last: Day, settings: Settings, known_at: datetime) -> ReplayedLookups:
    """Compare the logged answers of these days and write the result to `lookup_parity`. Twice is the same as once."""
    began = time.perf_counter()
    lake, ledger = Lake.of(settings), Ledger(settings.ledger_url)
    answers: list[ReplayedAnswers] = []
    failures: list[str] = []
    changed = False
    for day in days_between(first, last):
        asked_that_day = pl.col("event_timestamp").is_between(day.start, day.as_of)
        logged = lake.scan(LOOKUP_LOG).filter(asked_that_day).collect().sort("service", "view", "lookup_id")
        if logged.is_empty():
            continue
        found = [
            ReplayedAnswers(day=day.key, service=service, parity=_parity_of(lake, view, rows, settings))
            for (service, view), rows in logged.group_by("service", "view", maintain_order=True)
        ]
        allowed = settings.parity.max_differing
        differing = [one for one in found if one.parity.differing_share > 0]
        failed = [_in_words(one) for one in differing if one.parity.differing_share > allowed]
        noticed = [_in_words(one) for one in differing if one.parity.differing_share <= allowed]
        views, facts = [one.parity for one in found], [{"service": one.service} for one in found]
        changed |= record_parity(
            LOOKUP_PARITY, lake, ledger, day, views, facts, tuple(failed), tuple(noticed), known_at
        )
        answers += found
        failures += failed
    seconds = time.perf_counter() - began
    log.info("look-ups replayed", first=first.key, last=last.key, views=len(answers), failures=len(failures))
    return ReplayedLookups(answers=tuple(answers), failures=tuple(failures), changed=changed, seconds=seconds)


def _parity_of(lake: Lake, view: str, logged: pl.DataFrame, settings: Settings) -> ViewParity:
    """Every look-up is an entity of its own here: the same user may have been answered differently later."""
    whole = next(table for table in TABLES if table.name == view)
    features = {name for names in logged["features"] for name in names}
    kept = tuple(c for c in whole.columns if c.name in {USER, "event_timestamp", "created", *features})
    table = dataclasses.replace(whole, columns=kept)
    served = _served(table, logged)
    first = compare(table, USER, _as_known(lake, table, logged, timedelta(0)), served)
    neither = logged.height - first.sampled  # nothing served, and rightly so
    first = dataclasses.replace(first, sampled=logged.height, equal=first.equal + neither)
    if not first.differing:
        return first
    wrong = logged.filter(pl.col("lookup_id").is_in(first.differing))
    before = _as_known(lake, table, wrong, timedelta(minutes=settings.lookups.push_minutes))
    again = compare(table, USER, before, served.filter(pl.col(USER).is_in(first.differing)))
    neither = wrong.height - again.sampled
    again = dataclasses.replace(again, sampled=wrong.height, equal=again.equal + neither)
    return looked_at_again(first, again)


def _served(table: Table, logged: pl.DataFrame) -> pl.DataFrame:
    rows = []
    for name, served_at, text in logged.select("lookup_id", "served_at", "served").iter_rows():
        if served_at is not None:
            values = json.loads(text)
            row = {c.name: _typed(values.get(c.name), c.dtype) for c in table.columns}
            rows.append(row | {USER: name, "event_timestamp": served_at, "created": None})
    return pl.DataFrame(rows, schema=table.schema)


def _typed(value: object, dtype: pl.DataType) -> object:
    if dtype == UTC_TIME and isinstance(value, str):
        return datetime.fromisoformat(value)
    if dtype == pl.List(UTC_TIME) and isinstance(value, list):
        return [datetime.fromisoformat(moment) for moment in value]
    return value


def _as_known(lake: Lake, table: Table, logged: pl.DataFrame, on_its_way: timedelta) -> pl.DataFrame:
    """Of each look-up the row that was the newest one when it was asked, as it was known a while before."""
    asked = logged.select("lookup_id", USER, pl.col("event_timestamp").alias(ASKED))
    users = asked.select(USER).unique()
    rows = lake.scan(table).join(users.lazy(), on=USER, how="semi")
    pairs = rows.join(asked.lazy(), on=USER).filter(
        (pl.col("event_timestamp") <= pl.col(ASKED)) & (pl.col("created") <= pl.col(ASKED) - on_its_way)
    )
    newest = pairs.sort("lookup_id", "event_timestamp", "created").unique("lookup_id", keep="last", maintain_order=True)
    return newest.with_columns(pl.col("lookup_id").alias(USER)).select(table.names).collect()


def _in_words(one: ReplayedAnswers) -> str:
    return f"{one.service} on {one.day}, {in_words(one.parity)}"
