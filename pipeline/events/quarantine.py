"""
Refused rows: each keeps its reason, where it came from and all it said, so that it can be judged again.
"""

from __future__ import annotations

from datetime import datetime

import polars as pl

from pipeline.contracts import BEHAVIOR_EVENTS, PARTITION_COLUMN, UTC_TIME
from pipeline.events.landing import LANDING_COLUMNS, OPTIONAL_COLUMNS

SAID = (*OPTIONAL_COLUMNS, *LANDING_COLUMNS)


def quarantined_rows(refused: pl.DataFrame, created: datetime) -> pl.DataFrame:
    """Refused rows (landing columns, source, reason, detail, partition) as rows of QUARANTINED_EVENTS."""
    return refused.select(
        "source_file",
        "source_row",
        "reason",
        "detail",
        pl.struct(SAID).struct.json_encode().alias("raw"),
        pl.lit(BEHAVIOR_EVENTS.version).alias("contract_version"),
        pl.lit(created, UTC_TIME).alias("created"),
        PARTITION_COLUMN,
    )


def rows_to_judge_again(quarantined: pl.DataFrame) -> pl.DataFrame:
    """The landing rows that rows of QUARANTINED_EVENTS came from, with their source and partition."""
    said = pl.Struct(dict.fromkeys(SAID, pl.String()))
    return quarantined.select(
        pl.col("raw").str.json_decode(said).struct.unnest(), "source_file", "source_row", PARTITION_COLUMN
    )


def reasons_by_day(refused: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Rows by reason, the most frequent first, of every day that has any."""
    counts = refused.group_by(PARTITION_COLUMN, "reason").len().sort(
        [PARTITION_COLUMN, "len", "reason"], descending=[False, True, False]
    )
    days: dict[str, dict[str, int]] = {}
    for key, reason, rows in counts.iter_rows():
        days.setdefault(key, {})[reason] = rows
    return days
