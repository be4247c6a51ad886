"""
Reads a log for a benchmark: the same mapping and the same row checks as a load, without a home and without days.

Rows of equal time keep the order of the file, so that an outsider who sorts it stably by time sees the same sequences.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl

from pipeline.contracts import ITEM_VECTORS, ITEMS, PARTITION_COLUMN
from pipeline.errors import BadMapping, ContractViolation, UnreadableFile
from pipeline.events.catalogue import first_events, items_from_events, items_from_file
from pipeline.events.contract_checks import RowRules, check_rows, deduplicate
from pipeline.events.item_vectors import vectors_from_file
from pipeline.events.landing import landing_rows
from pipeline.events.mapping import Mapping
from pipeline.events.sources import read_table


@dataclass(frozen=True)
class BenchmarkLog:
    """Events that passed the checks, what was described of items, and what was left out."""

    events: pl.DataFrame = field(repr=False)
    """user_id, item_id, event_type, event_time, event_id; the ids count rows, so they order equal times"""
    items: pl.DataFrame = field(repr=False)
    """rows of the contract ITEMS, of all items of the log or of its items file"""
    vectors: pl.DataFrame = field(repr=False)
    """rows of the contract ITEM_VECTORS"""
    rows: int
    duplicates: int
    refused: dict[str, int]
    """reason → rows"""


def read_log(
    events: Path, items: Path | None, mapping: Mapping, earliest: datetime, known_at: datetime
) -> BenchmarkLog:
    """Every event type that the mapping gives is accepted.

    Raises:
        UnreadableFile: a file is missing, empty, truncated or of another encoding.
        BadMapping: a column that the mapping names is not there, or no row has a readable time.
        ContractViolation: every row was refused.
    """
    if items is not None and mapping.items is None:
        raise BadMapping(f"{items} is given, but the mapping has no `items:`. Say there where its columns are.")
    source = read_table(events, mapping.events, mapping.events.explode)
    if source.is_empty():
        raise UnreadableFile(f"{events} has a header and no row. There is nothing to measure.")
    landed = landing_rows(source, mapping.events, events.name, known_at)
    moments = landed.moments.set((~landed.moments.is_between(earliest, known_at)).fill_null(True), None)
    if moments.null_count() == moments.len():
        found = landed.rows["event_time"].drop_nulls().head(1).to_list()
        raise BadMapping(
            f"{events}: no row has a plausible time; the first is {found[0] if found else 'missing'!r}. Expected one "
            f"between {earliest:%Y-%m-%d} and now. Correct `time:` in the mapping (unit, format)."
        )
    day = moments.dt.to_string("%Y-%m-%d").fill_null("1970-01-01").alias(PARTITION_COLUMN)
    types = tuple(sorted(landed.rows["event_type"].drop_nulls().unique()))
    checked = check_rows(landed.rows.with_columns(day), RowRules(types, earliest))
    places = landed.rows.select("event_id", "loaded_row").unique("event_id", keep="first", maintain_order=True)
    kept = deduplicate(checked.accepted).kept.unique("event_id", keep="first", maintain_order=True)
    kept = kept.join(places, on="event_id", how="left")
    if kept.is_empty():
        first = checked.refused.row(0, named=True)
        raise ContractViolation(
            f"{events}: all {source.height} rows were refused; the first because of {first['reason']} "
            f"({first['detail']}). Correct the mapping."
        )
    reasons = checked.refused["reason"].value_counts().sort("reason")
    described, vectors = ITEMS.empty(), ITEM_VECTORS.empty()
    if items is not None:
        seen = first_events(landed.rows, moments)
        asked = (read_table(items, mapping.items), mapping.items, items.name, seen, moments.max())
        described, vectors = items_from_file(*asked), vectors_from_file(*asked)
    elif mapping.events.item_title:
        described = items_from_events(landed.rows, moments, landed.titles)
    return BenchmarkLog(
        events=kept.select(
            "user_id", "item_id", "event_type", "event_time",
            pl.col("loaded_row").cast(pl.String).str.zfill(12).alias("event_id"),
        ),
        items=described,
        vectors=vectors,
        rows=source.height,
        duplicates=checked.accepted.height - kept.height,
        refused=dict(reasons.iter_rows()),
    )
