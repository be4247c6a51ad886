"""
What a partition was made by and from, as its line in the ledger and its commit say it: `definition`, `content`, and
`upstream`, the content of what it was made from.

An erasure takes rows out and leaves these names as they are: what was made from the rows is not stale for it, and was
erased itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from pipeline.backfill.content import catalogue_by_day, content_of, contents_by_day
from pipeline.backfill.definitions import DEFINITIONS, definition_of
from pipeline.contracts import BEHAVIOR_EVENTS, ITEMS, Table
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.steps.published import PublishedEvents
from pipeline.stores.ledger import Ledger
from pipeline.stores.tables import Lake

LANDING = "landing"
"""The upstream of events: the files that were delivered."""
MODEL = "model"
"""The upstream of served tables: the version that serves the day."""
DAY_BEFORE = f"{BEHAVIOR_EVENTS.name} of the day before"
"""The upstream of features beside the day's own events, where the files of a day may hold events of the next one."""

Contents = Mapping[str, Mapping[str, str]]
"""table name -> day -> the content that the ledger names"""


def contents_in(ledger: Ledger, tables: Sequence[Table], within: tuple[str, str] | None = None) -> Contents:
    return {
        table.name: {line.partition: line.details.get("content", "") for line in ledger.partitions(table.name, within)}
        for table in tables
    }


def upstream_contents(ledger: Ledger, table: Table, within: tuple[str, str] | None = None) -> Contents:
    """The contents of the tables that a table is made from, of all days or of those `within` two keys."""
    return contents_in(ledger, DEFINITIONS[table].upstream, within)


def day_before_of(contents: Contents, table: Table, settings: Settings) -> Contents:
    """What is published of the day before each day, where a table is made from it, too."""
    if not settings.logs.day_end_tolerance_minutes or BEHAVIOR_EVENTS not in DEFINITIONS[table].upstream:
        return {}
    published = contents.get(BEHAVIOR_EVENTS.name, {})
    return {DAY_BEFORE: {Day.parse(key).plus(1).key: content for key, content in published.items()}}


def catalogue_of(lake: Lake, table: Table, keys: Iterable[str]) -> Contents:
    """What the catalogue said by the end of each day, where a table is made from it."""
    if not DEFINITIONS[table].by_catalogue:
        return {}
    items = lake.scan(ITEMS).select("item_id", "categories", "valid_from")
    return {ITEMS.name: catalogue_by_day(items.collect(), keys)}


def made_from(upstream: Contents, key: str) -> dict[str, str]:
    """What a day is made from now."""
    return {name: days.get(key, "") for name, days in upstream.items()}


def provenance(table: Table, key: str, rows: pl.DataFrame, upstream: Contents, settings: Settings) -> dict[str, object]:
    """The three facts of one partition that is being written."""
    return {
        "definition": definition_of(table, settings),
        "content": content_of(table, rows),
        "upstream": made_from(upstream, key),
    }


def traced(
    outcomes: Sequence[PublishedEvents], kept: pl.DataFrame, landed: Mapping[str, str], settings: Settings
) -> list[PublishedEvents]:
    """The outcomes with the three facts of their days.

    Args:
        kept: the rows that are published, with the partition column.
        landed: by day, the fingerprint of the files that they were read from.
    """
    contents = contents_by_day(BEHAVIOR_EVENTS, kept)
    empty, definition = content_of(BEHAVIOR_EVENTS, kept.clear()), definition_of(BEHAVIOR_EVENTS, settings)
    return [
        outcome.model_copy(
            update={
                "provenance": {
                    "definition": definition,
                    "content": contents.get(outcome.day, empty),
                    "upstream": {LANDING: landed.get(outcome.day, "")},
                }
            }
        )
        for outcome in outcomes
    ]
