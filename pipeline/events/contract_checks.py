"""
Checks every row of a log against the contract: what is accepted, what is refused and why, what is a repetition.

Nothing is lost here: rows in = accepted + refused, and accepted = unique + duplicates.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from pipeline.contracts import BEHAVIOR_EVENTS, PARTITION_COLUMN, UTC_TIME, Column
from pipeline.errors import ContractViolation
from pipeline.events.landing import LANDING_COLUMNS, OPTIONAL_COLUMNS, hashed_id, moment_of_iso
from pipeline.settings import Logs

LATEST = datetime(2200, 1, 1, tzinfo=UTC)
CONTROL = r"[\p{Cc}\p{Cf}\p{Co}\u{2028}\u{2029}]"
MARKUP = (
    r"(?i)[<>]|&#|javascript:"
    r"|'\s*(or|and)\s|'\s*;|'\s*--|/\*|\*/"
    r"|;\s*(drop|delete|insert|update|alter|truncate|select|exec)\b"
    r"|\bunion\s+(all\s+)?select\b|\b(drop|truncate|alter)\s+table\b|\bdelete\s+from\b|\binsert\s+into\b"
)
PAYLOAD = ("user_id", "item_id", "event_type", "event_time", "value")


@dataclass(frozen=True)
class RowRules:
    """What an operator decides about rows."""

    event_types: tuple[str, ...]
    earliest: datetime
    tolerance: timedelta = timedelta(0)

    @classmethod
    def of(cls, logs: Logs) -> RowRules:
        """As the settings say it."""
        tolerance = timedelta(minutes=logs.day_end_tolerance_minutes)
        return cls(tuple(logs.event_weights), logs.earliest_event, tolerance)


@dataclass(frozen=True)
class CheckedRows:
    """`accepted` in the contract's columns and the partition; `refused` as it arrived, with `reason` and `detail`."""

    accepted: pl.DataFrame
    refused: pl.DataFrame


@dataclass(frozen=True)
class UniqueRows:
    """One row for each event id; `dropped` has the partition and whether it contradicted the row that was kept."""

    kept: pl.DataFrame
    dropped: pl.DataFrame


def require_columns(frame: pl.DataFrame, file: str) -> list[str]:
    """Compare a landing file's columns with the contract; gives back those that are extra.

    Raises:
        ContractViolation: a column is missing, renamed or of another type; says what was expected and found.
    """
    faults = []
    for name in (*LANDING_COLUMNS, *OPTIONAL_COLUMNS):
        found = frame.schema.get(name)
        if found is None:
            if name in LANDING_COLUMNS:
                faults.append(f"- {name}: expected {_expected(name)}, found no such column")
        elif not _fits(name, found):
            faults.append(f"- {name}: expected {_expected(name)}, found {found}")
    extra = [name for name in frame.columns if name not in (*LANDING_COLUMNS, *OPTIONAL_COLUMNS)]
    if faults:
        also = f" Columns that the contract does not know (renamed?): {', '.join(extra)}." if extra else ""
        raise ContractViolation(
            f"{file} does not fit the contract of {BEHAVIOR_EVENTS.name} ({BEHAVIOR_EVENTS.version}). "
            f"{' '.join(faults)}.{also} Nothing was written."
        )
    return extra


def as_landed(frame: pl.DataFrame) -> pl.DataFrame:
    """A landing file's columns as text, in one order; `event_id` derived where the log has none."""
    wanted = [*OPTIONAL_COLUMNS, *LANDING_COLUMNS]
    typed = frame.select(
        _text(frame, name).alias(name) if name in frame.columns else pl.lit(None, pl.String).alias(name)
        for name in wanted
    )
    if typed["event_id"].null_count() == 0:
        return typed
    return typed.with_columns(pl.coalesce("event_id", hashed_id(typed.select(PAYLOAD))))


def check_rows(rows: pl.DataFrame, rules: RowRules) -> CheckedRows:
    """Split rows (text, with `event_date` as the day that they were delivered for) into accepted and refused.

    A row is refused for the first reason that holds: what the mapping said, then column by column of the contract,
    then its time against its day.
    """
    parsed = rows.with_columns(
        moment_of_iso(pl.col("event_time").str.strip_chars()).alias("event_time_read"),
        moment_of_iso(pl.col("ingested_at").str.strip_chars()).alias("ingested_at_read"),
        pl.col("value").str.strip_chars().cast(pl.Float64, strict=False).alias("value_read"),
    )
    checks: list[tuple[pl.Expr, pl.Expr, pl.Expr]] = [
        (pl.col("refuse_reason").is_not_null(), pl.col("refuse_reason"), pl.lit(None, pl.String))
    ]
    for column in BEHAVIOR_EVENTS.columns:
        for holds, reason in _column_checks(column, rules):
            checks.append((holds, pl.lit(reason), pl.col(column.name)))
    day_start = pl.col(PARTITION_COLUMN).str.to_datetime("%Y-%m-%d", time_unit="us", time_zone="UTC")
    moment = pl.col("event_time_read")
    outside = (moment < day_start) | (moment >= day_start + timedelta(days=1) + rules.tolerance)
    checks.append((outside, pl.lit("event_time_outside_day"), pl.col("event_time")))
    reason, detail = pl.lit(None, pl.String), pl.lit(None, pl.String)
    for holds, code, offending in reversed(checks):
        reason = pl.when(holds.fill_null(False)).then(code).otherwise(reason)
        detail = pl.when(holds.fill_null(False)).then(offending).otherwise(detail)
    judged = parsed.with_columns(reason.alias("reason"), shown(detail).alias("detail"))
    accepted = judged.filter(pl.col("reason").is_null()).select(
        "event_id",
        "user_id",
        "item_id",
        "event_type",
        pl.col("event_time_read").cast(UTC_TIME).alias("event_time"),
        pl.col("value_read").alias("value"),
        pl.col("ingested_at_read").cast(UTC_TIME).alias("ingested_at"),
        PARTITION_COLUMN,
    )
    refused = judged.filter(pl.col("reason").is_not_null()).select(*rows.columns, "reason", "detail")
    return CheckedRows(accepted, refused)


def deduplicate(accepted: pl.DataFrame) -> UniqueRows:
    """Keep one row for each event id of a day.

    Of rows with one id the one that arrived last is kept, and of equal arrivals the greatest by content: the same
    choice in any order of files. A dropped row that says something else than the kept one is a conflict.
    """
    order = [pl.col(name) for name in ("ingested_at", *PAYLOAD)]
    ordered = accepted.sort(PARTITION_COLUMN, "event_id", *order, descending=[False, False, *[True] * len(order)],
                            nulls_last=True)
    key = [PARTITION_COLUMN, "event_id"]
    is_first = pl.struct(key).is_first_distinct()
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).first().over(key)) for name in PAYLOAD)
    marked = ordered.with_columns(is_first.alias("is_first"), (~same).alias("contradicts"))
    return UniqueRows(
        kept=marked.filter("is_first").select(accepted.columns),
        dropped=marked.filter(~pl.col("is_first")).select(PARTITION_COLUMN, "event_id", "contradicts"),
    )


def shown(text: pl.Expr, length: int = 80) -> pl.Expr:
    """Text that is safe to show: shortened, without characters that a terminal or a browser would obey."""
    plain = text.str.replace_all(CONTROL, "\ufffd")
    return pl.when(plain.str.len_chars() > length).then(plain.str.slice(0, length) + "…").otherwise(plain)


def can_be_user_id(user_ids: pl.Series) -> pl.Series:
    """A mask: the ids that no check of the contract refuses."""
    column = BEHAVIOR_EVENTS.column("user_id")
    frame = pl.DataFrame({column.name: user_ids.cast(pl.String)})
    refused = [holds for holds, _ in _column_checks(column, RowRules((), LATEST))]
    return frame.select(~pl.any_horizontal(refused).fill_null(True)).to_series()


def _column_checks(column: Column, rules: RowRules) -> list[tuple[pl.Expr, str]]:
    text, name = pl.col(column.name), column.name
    checks = []
    if column.required:
        checks.append((text.is_null(), f"{name}_missing"))
    if column.max_length is not None:
        checks += [
            (text.str.strip_chars() == "", f"{name}_empty"),
            (text.str.len_chars() > column.max_length, f"{name}_too_long"),
            (text.str.contains(CONTROL), f"{name}_control_characters"),
            (text.str.contains(MARKUP), f"{name}_html_or_sql"),
        ]
    if name == "event_type":
        checks.append((~text.is_in(list(rules.event_types)), "event_type_not_allowed"))
    if column.allowed is not None:
        checks.append((~text.is_in(list(column.allowed)), f"{name}_not_allowed"))
    if column.dtype == UTC_TIME:
        moment = pl.col(f"{name}_read")
        checks += [
            (text.is_not_null() & moment.is_null(), f"{name}_unparsable"),
            ((moment < rules.earliest) | (moment >= LATEST), f"{name}_out_of_range"),
        ]
    if column.dtype == pl.Float64:
        number = pl.col(f"{name}_read")
        checks += [
            (text.is_not_null() & number.is_null(), f"{name}_unparsable"),
            (number.is_nan() | number.is_infinite(), f"{name}_not_finite"),
        ]
        if column.minimum is not None:
            checks.append((number < column.minimum, f"{name}_too_small"))
        if column.maximum is not None:
            checks.append((number > column.maximum, f"{name}_too_large"))
    return checks


def _expected(name: str) -> str:
    if name == "loaded_row":
        return "Int64"
    dtype = BEHAVIOR_EVENTS.schema.get(name, pl.String())
    return "String" if dtype == pl.String else f"{dtype} (or text)"


def _fits(name: str, found: pl.DataType) -> bool:
    if found in (pl.String, pl.Null):
        return True
    if name == "loaded_row":
        return found.is_integer()
    dtype = BEHAVIOR_EVENTS.schema.get(name, pl.String())
    if dtype == UTC_TIME:
        return isinstance(found, pl.Datetime)
    return dtype == pl.Float64 and found.is_numeric()


def _text(frame: pl.DataFrame, name: str) -> pl.Expr:
    dtype, column = frame.schema[name], pl.col(name)
    if isinstance(dtype, pl.Datetime):
        utc = column.dt.convert_time_zone("UTC") if dtype.time_zone else column.dt.replace_time_zone("UTC")
        return utc.cast(UTC_TIME).dt.to_string("%Y-%m-%dT%H:%M:%S%.6fZ")
    return column.cast(pl.String)

