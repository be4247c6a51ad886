"""
The items that a log brings: from an items file, or from the titles in its events.

An item's description holds from the item's first event on, never earlier, so that no training row sees an item
before the log did. An item without an event holds from the log's last event on.
"""

from __future__ import annotations

from datetime import datetime

import polars as pl

from pipeline.contracts import ITEMS, MAX_ID_LENGTH, UNKNOWN_TITLE, UTC_TIME, Table
from pipeline.events.landing import as_text, moment_of, resolve_columns
from pipeline.events.mapping import ItemsFile
from pipeline.events.sources import LIST_MARK

MAX_TITLE_LENGTH = 500


def items_from_file(
    source: pl.DataFrame, mapping: ItemsFile, file: str, first_events: pl.DataFrame, last_event: datetime
) -> pl.DataFrame:
    """The catalogue of an items file (ITEMS); the first line wins where an item comes twice.

    Args:
        first_events: item_id and `first_event` of every item with an event in the log.
    """
    columns = mapping.columns
    named = [name for name in (columns.item_id, columns.title, columns.categories, columns.valid_from) if name]
    actual = resolve_columns(source, named, file)
    described = {
        "title": as_text(source, actual[columns.title]),
        "categories": as_text(source, actual[columns.categories]) if columns.categories else pl.lit(""),
    }
    return _described(
        described_items(source, mapping, file, described, first_events, last_event),
        pl.col("categories")
        .fill_null("")
        .str.replace_all(mapping.category_separator, LIST_MARK, literal=True)
        .str.split(LIST_MARK)
        .list.eval(pl.element().str.strip_chars().filter(
            (pl.element().str.strip_chars() != "") & ~pl.element().str.strip_chars().is_in(list(mapping.no_category))
        )),
    )


def described_items(
    source: pl.DataFrame, mapping: ItemsFile, file: str, described: dict[str, pl.Expr], first_events: pl.DataFrame,
    last_event: datetime,
) -> pl.DataFrame:
    """item_id, valid_from and what is `described` (name → expression over `source`) of each item of a file."""
    columns = mapping.columns
    actual = resolve_columns(source, [name for name in (columns.item_id, columns.valid_from) if name], file)
    since = moment_of(source, actual[columns.valid_from], mapping.time) if columns.valid_from else None
    rows = source.select(
        as_text(source, actual[columns.item_id]).alias("item_id"),
        (pl.lit(None, UTC_TIME) if since is None else since).alias("valid_from"),
        **described,
    )
    known = rows.filter(_usable_id("item_id")).unique(
        ["item_id", "valid_from"] if columns.valid_from else ["item_id"], keep="first", maintain_order=True
    )
    since = pl.coalesce("valid_from", "first_event", pl.lit(last_event, UTC_TIME))
    return known.join(first_events, on="item_id", how="left").with_columns(since.alias("valid_from"))


def items_from_events(rows: pl.DataFrame, moments: pl.Series, titles: pl.Series) -> pl.DataFrame:
    """The items named in the events (ITEMS), without categories.

    The title is the first one that is not blank, by time and then by row: more log never changes it. Rows that the
    mapping refuses describe nothing.
    """
    named = rows.select("item_id", "refuse_reason", "loaded_row").with_columns(
        moments.alias("moment"), titles.cast(pl.String).alias("title")
    )
    usable = named.filter(_usable_id("item_id"), pl.col("refuse_reason").is_null(), pl.col("moment").is_not_null())
    ordered = usable.with_columns(_clean("title")).sort("moment", "loaded_row")
    items = ordered.group_by("item_id").agg(
        pl.col("title").filter(pl.col("title") != "").first(), pl.col("moment").first().alias("valid_from")
    )
    return _described(items, pl.lit([], pl.List(pl.String)))


def first_events(rows: pl.DataFrame, moments: pl.Series) -> pl.DataFrame:
    """item_id and the time of its first event."""
    seen = rows.select("item_id").with_columns(moments.alias("first_event"))
    return seen.drop_nulls().group_by("item_id").agg(pl.col("first_event").min())


def merged_items(standing: pl.DataFrame, arriving: pl.DataFrame, table: Table = ITEMS) -> pl.DataFrame:
    """One catalogue of both; a description that repeats the one before it adds no row.

    For the same item and `valid_from` the arriving description wins: it is a correction. So for the vectors of a
    modality, with their `table`.
    """
    both = pl.concat([standing.select(table.names), arriving.select(table.names)])
    rows = both.unique(table.key, keep="last", maintain_order=True).sort(table.key)
    described = [name for name in table.key if name != "valid_from"]
    repeats = [
        pl.col(name) == pl.col(name).shift().over(described) for name in table.names if name not in table.key
    ]
    return rows.filter(~pl.all_horizontal(repeats).fill_null(False))


def _described(items: pl.DataFrame, categories: pl.Expr) -> pl.DataFrame:
    title = pl.when(_clean("title").fill_null("") == "").then(pl.lit(UNKNOWN_TITLE)).otherwise(_clean("title"))
    return items.select(
        "item_id", title.alias("title"), categories.alias("categories"), pl.col("valid_from").cast(UTC_TIME)
    ).sort("item_id", "valid_from")


def _clean(name: str) -> pl.Expr:
    """Text without control characters and runs of blanks."""
    spaced = pl.col(name).str.replace_all(r"[\p{Cc}\p{Cf}]", " ").str.replace_all(r"\s+", " ")
    return spaced.str.strip_chars().str.slice(0, MAX_TITLE_LENGTH).alias(name)


def _usable_id(name: str) -> pl.Expr:
    column = pl.col(name)
    return (column.str.strip_chars() != "").fill_null(False) & (column.str.len_chars() <= MAX_ID_LENGTH)
