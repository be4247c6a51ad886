"""
Turns somebody's own log into landing rows: the contract's columns as text, nothing judged, nothing dropped.

A landing row is text because a value that cannot be read must arrive too: it is quarantined when its day is
published, with what it said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from pipeline.errors import BadMapping
from pipeline.events.mapping import Condition, EventsFile, HashOf, Product, TimeShape

LANDING_COLUMNS = ("user_id", "item_id", "event_type", "event_time", "value", "ingested_at")
OPTIONAL_COLUMNS = ("event_id", "refuse_reason", "loaded_row")
"""`event_id` is derived where it is absent; the other two are written by `interest load`."""

ISO = "%Y-%m-%dT%H:%M:%S%.6fZ"
NUMBER_UNITS = {"s": 1_000_000.0, "ms": 1_000.0, "us": 1.0, "ns": 0.001}
TYPE_SUFFIXES = (":token", ":token_seq", ":float", ":float_seq")
"""RecBole writes a column's type behind its name."""


@dataclass(frozen=True)
class LandingRows:
    """Rows in the columns above (with `event_id`), the moment of each, and its title where the log has one."""

    rows: pl.DataFrame
    moments: pl.Series
    titles: pl.Series | None


def landing_rows(source: pl.DataFrame, mapping: EventsFile, file: str, ingested_at: datetime) -> LandingRows:
    """The rows of `source`, one for one and in order, as the mapping reads them.

    Raises:
        BadMapping: a column that the mapping names is not in the file.
    """
    columns = mapping.columns
    named = _named_columns(mapping)
    actual = resolve_columns(source, named, file)
    text = source.select(as_text(source, name).alias(name) for name in source.columns)
    moments = source.select(moment_of(source, actual[columns.event_time], mapping.time)).to_series()
    iso = moments.dt.to_string(ISO)
    value = _value_of(source, columns.value, actual)
    event_type = _event_type_of(mapping, actual)
    refusal = pl.coalesce(
        *[pl.when(_all(rule.when, actual)).then(pl.lit(f"mapping:{rule.reason}")) for rule in mapping.refuse],
        pl.lit(None, pl.String),
    )
    rows = text.select(
        _event_id_of(text, columns.event_id, actual).alias("event_id"),
        pl.col(actual[columns.user_id]).alias("user_id"),
        pl.col(actual[columns.item_id]).alias("item_id"),
        event_type.alias("event_type"),
        pl.coalesce(pl.lit(iso), pl.col(actual[columns.event_time])).alias("event_time"),
        value.alias("value"),
        pl.lit(ingested_at).dt.to_string(ISO).alias("ingested_at"),
        refusal.alias("refuse_reason"),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("loaded_row"),
    )
    titles = text[actual[mapping.item_title]] if mapping.item_title else None
    return LandingRows(rows, moments, titles)


def resolve_columns(source: pl.DataFrame, named: Sequence[str], file: str) -> dict[str, str]:
    """Each name in the mapping and the file's own name for it. Raises BadMapping with what is missing."""
    known = {name: name for name in source.columns}
    for name in source.columns:
        for suffix in TYPE_SUFFIXES:
            if name.endswith(suffix):
                known.setdefault(name.removesuffix(suffix), name)
    missing = sorted({name for name in named if name not in known})
    if missing:
        raise BadMapping(
            f"{file} has no column {', '.join(repr(name) for name in missing)}, which the mapping names. "
            f"It has: {', '.join(source.columns)}. Nothing was loaded; correct the mapping (also `separator`)."
        )
    return {name: known[name] for name in named}


def as_text(source: pl.DataFrame, name: str) -> pl.Expr:
    """A column as text; a whole number that pandas has made a float (`17850.0`) is whole again."""
    dtype, column = source.schema[name], pl.col(name)
    if dtype == pl.String:
        return column
    if dtype.is_float():
        whole = column.is_finite() & (column == column.round()) & (column.abs() < 2**53)
        shortest = column.cast(pl.Int64, strict=False).cast(pl.String)
        return pl.when(whole).then(shortest).otherwise(column.cast(pl.String))
    if isinstance(dtype, pl.List):
        return column.cast(pl.List(pl.String)).list.join("\x1f")
    if isinstance(dtype, pl.Datetime):
        return column.dt.to_string("iso:strict")
    if isinstance(dtype, pl.Struct):
        return column.struct.json_encode()
    return column.cast(pl.String, strict=False)


def moment_of(source: pl.DataFrame, name: str, shape: TimeShape) -> pl.Expr:
    """A column as UTC time in microseconds; null where it cannot be read as the mapping says."""
    dtype, column = source.schema[name], pl.col(name)
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is None:
            return in_utc(column.cast(pl.Datetime("us")), shape.zone)
        return column.dt.convert_time_zone("UTC").cast(pl.Datetime("us", "UTC"))
    if dtype == pl.Date:
        return in_utc(column.cast(pl.Datetime("us")), shape.zone)
    if shape.unit:
        return _moment_of_number(column, dtype, NUMBER_UNITS[shape.unit])
    text = column.cast(pl.String, strict=False).str.strip_chars()
    if shape.format:
        if "%z" in shape.format or "%#z" in shape.format:
            return text.str.to_datetime(shape.format, time_unit="us", time_zone="UTC", strict=False)
        return in_utc(text.str.to_datetime(shape.format, time_unit="us", strict=False), shape.zone)
    return moment_of_iso(text, shape.zone)


def moment_of_iso(text: pl.Expr, zone: str = "UTC") -> pl.Expr:
    """ISO 8601 as UTC time; null where it is no such text. Without a zone it is in `zone`; a date alone is midnight."""
    joined = text.str.replace(r"^(\d{4}-\d{2}-\d{2}) ", "${1}T")
    zoned = joined.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    naive = joined.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    dates = text.str.extract(r"^(\d{4}-\d{2}-\d{2})$").str.to_datetime("%Y-%m-%d", time_unit="us", strict=False)
    return pl.coalesce(zoned, in_utc(pl.coalesce(naive, dates), zone))


def in_utc(naive: pl.Expr, zone: str) -> pl.Expr:
    """A local time as UTC; the earlier one of an hour that comes twice, null in an hour that is skipped."""
    local = naive.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return local.dt.convert_time_zone("UTC")


def hashed_id(text: pl.DataFrame) -> pl.Series:
    """A name for each row made of all its columns (text): equal rows have equal names, today and in any file."""
    parts = []
    for name in sorted(text.columns):
        value = pl.col(name).fill_null("\x00")
        # The length keeps ("ab", "c") and ("a", "bc") apart.
        parts += [value.str.len_bytes().cast(pl.String), pl.lit(":"), value]
    joined = text.select(pl.concat_str(parts)).to_series()
    digests = [hashlib.sha256(line.encode()).hexdigest()[:32] for line in joined]
    return pl.Series("event_id", digests, dtype=pl.String)


def _named_columns(mapping: EventsFile) -> list[str]:
    columns = mapping.columns
    named = [columns.user_id, columns.item_id, columns.event_time]
    named += [columns.value] if isinstance(columns.value, str) else []
    named += columns.value.product if isinstance(columns.value, Product) else []
    named += [columns.event_id] if isinstance(columns.event_id, str) else []
    named += columns.event_id.hash_of if isinstance(columns.event_id, HashOf) else []
    named += [mapping.event_type.column] if mapping.event_type.column else []
    named += [mapping.item_title] if mapping.item_title else []
    rules = [*mapping.refuse, *mapping.event_type.rules]
    return named + [condition.column for rule in rules for condition in rule.when]


def _moment_of_number(column: pl.Expr, dtype: pl.DataType, scale: float) -> pl.Expr:
    number = (column.str.strip_chars() if dtype == pl.String else column).cast(pl.Float64, strict=False)
    micros = (number * scale).round()
    readable = micros.is_finite() & micros.is_between(-6.2e16, 2.5e17)  # years 1 to 9999
    return pl.when(readable).then(micros).cast(pl.Int64, strict=False).cast(pl.Datetime("us", "UTC"))


def _value_of(source: pl.DataFrame, value: str | Product | None, actual: dict[str, str]) -> pl.Expr:
    if value is None:
        return pl.lit(None, pl.String)
    if isinstance(value, str):
        return pl.col(actual[value])
    numbers = [source[actual[name]].cast(pl.Float64, strict=False) for name in value.product]
    result = numbers[0]
    for factor in numbers[1:]:
        result = result * factor
    return pl.lit(result.round(6).cast(pl.String))


def _event_type_of(mapping: EventsFile, actual: dict[str, str]) -> pl.Expr:
    shape = mapping.event_type
    if shape.column is None:
        usual = pl.lit(shape.constant)
    else:
        usual = pl.col(actual[shape.column])
        usual = usual.replace(dict(shape.values)) if shape.values else usual
    ruled = [pl.when(_all(rule.when, actual)).then(pl.lit(rule.type)) for rule in shape.rules]
    return pl.coalesce(*ruled, usual) if ruled else usual


def _event_id_of(text: pl.DataFrame, event_id: str | HashOf | None, actual: dict[str, str]) -> pl.Expr:
    if isinstance(event_id, str):
        return pl.col(actual[event_id])
    if event_id is None:
        return pl.lit(hashed_id(text))
    # Under the mapping's names, so that a type suffix in the header changes no id.
    return pl.lit(hashed_id(text.select(pl.col(actual[name]).alias(name) for name in event_id.hash_of)))


def _all(conditions: Sequence[Condition], actual: dict[str, str]) -> pl.Expr:
    return pl.all_horizontal(_holds(condition, actual[condition.column]) for condition in conditions)


def _holds(condition: Condition, name: str) -> pl.Expr:
    """Whether a condition holds for a row of text columns; a missing value meets `empty` only."""
    column = pl.col(name)
    if condition.empty is not None:
        blank = column.is_null() | (column.str.strip_chars() == "")
        return blank if condition.empty else ~blank
    if condition.equals is not None:
        test = column == condition.equals
    elif condition.one_of is not None:
        test = column.is_in(list(condition.one_of))
    elif condition.prefix is not None:
        test = column.str.starts_with(condition.prefix)
    elif condition.matches is not None:
        test = column.str.contains(condition.matches)
    elif condition.below is not None:
        test = column.cast(pl.Float64, strict=False) < condition.below
    else:
        test = column.cast(pl.Float64, strict=False) > condition.above
    return test.fill_null(False)
