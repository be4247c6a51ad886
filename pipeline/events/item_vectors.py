"""
The vectors that an items file brings of its items, a column for each modality: of pictures, of sound.

A vector holds from when its item's description does. It is taken as it is; what has to be done so that vectors tell
items apart is done where a model reads them.
"""

from __future__ import annotations

from datetime import datetime

import polars as pl

from pipeline.contracts import ITEM_VECTORS
from pipeline.errors import BadMapping
from pipeline.events.catalogue import described_items
from pipeline.events.landing import resolve_columns
from pipeline.events.mapping import ItemsFile
from pipeline.events.sources import LIST_MARK

VECTOR = ITEM_VECTORS.schema["vector"]


def vectors_from_file(
    source: pl.DataFrame, mapping: ItemsFile, file: str, first_events: pl.DataFrame, last_event: datetime
) -> pl.DataFrame:
    """The rows of ITEM_VECTORS of an items file. An item without a vector in a modality has no row there.

    A column holds lists (Parquet, JSON), or text of numbers between blanks, commas or bars (CSV).

    Raises:
        BadMapping: a column that the mapping names is not there, or holds something else than numbers, or vectors of
            several widths.
    """
    named = dict(sorted(mapping.columns.vectors.items()))
    actual = resolve_columns(source, list(named.values()), file)
    found = [ITEM_VECTORS.empty()]
    for modality, column in named.items():
        vectors = {"vector": _numbers(source, actual[column]), "given": pl.col(actual[column]).is_not_null()}
        rows = described_items(source, mapping, file, vectors, first_events, last_event)
        rows = rows.filter("given").filter((pl.col("vector").list.len() > 0).fill_null(True))
        _check(rows, f"{file}, column {column!r}")
        found.append(rows.with_columns(pl.lit(modality).alias("modality")).select(ITEM_VECTORS.names))
    return pl.concat(found).sort(ITEM_VECTORS.key)


def _numbers(source: pl.DataFrame, name: str) -> pl.Expr:
    """A column as lists of float32; an element that is no number is null."""
    column = pl.col(name)
    if isinstance(source.schema[name], pl.List | pl.Array):
        inner = source.schema[name].inner
        return column.cast(pl.List(inner)).cast(VECTOR, strict=False) if inner.is_numeric() else pl.lit(None, VECTOR)
    words = column.cast(pl.String, strict=False).str.strip_chars("[] ").str.replace_all(rf"[\s,;|{LIST_MARK}]+", " ")
    return words.str.strip_chars().str.split(" ").list.eval(pl.element().filter(pl.element() != "")).cast(
        VECTOR, strict=False
    )


def _check(rows: pl.DataFrame, place: str) -> None:
    """Raises BadMapping with the first item whose vector is none."""
    finite = pl.col("vector").list.eval(pl.element().is_finite().fill_null(False)).list.all()
    broken = rows.filter(~finite.fill_null(False))
    if broken.height:
        raise BadMapping(
            f"{place}: the vector of item {broken['item_id'][0]!r} is not a list of numbers; so it is with "
            f"{broken.height} of {rows.height} items. Expected a list in Parquet or JSON, or text with blanks between "
            "the numbers; nothing where an item has none."
        )
    widths = rows.select(pl.col("vector").list.len().alias("width"), "item_id").unique("width", maintain_order=True)
    if widths.height > 1:
        (one, first), (other, second) = widths.head(2).iter_rows()
        raise BadMapping(
            f"{place}: item {first!r} has {one} numbers and item {second!r} {other}. Expected vectors of one encoder, "
            "all of one width."
        )
