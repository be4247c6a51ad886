"""
Tells which delivered rows of a day are neither published nor quarantined, when the day itself has to stay as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from pipeline.contracts import PARTITION_COLUMN
from pipeline.events.contract_checks import PAYLOAD, RowRules, check_rows, deduplicate
from pipeline.events.quarantine import SAID

ARRIVED, CORRECTED = "arrived_after_lookback", "corrected_after_lookback"
ROW = "landing_row"


@dataclass(frozen=True)
class LateRows:
    """`rows` in landing columns with source, partition, `reason` and `detail`; `duplicates` repeat what is known."""

    rows: pl.DataFrame
    duplicates: int
    gone: int
    """Rows that stand, published or quarantined, and are in no file any more."""


def late_rows(delivered: pl.DataFrame, rules: RowRules, published: pl.DataFrame, quarantined: pl.DataFrame) -> LateRows:
    """Of the rows of one day's files, those that publishing the day again would add, change or refuse.

    Args:
        delivered: the landing rows of the day as text, with source and partition.
        published, quarantined: what stands of the day.
    """
    rows = delivered.with_row_index(ROW)
    checked = check_rows(rows, rules)
    places = rows.join(checked.refused, on=ROW, how="anti", maintain_order="left")[ROW]
    accepted = checked.accepted.with_columns(places)
    said = ["event_id", *PAYLOAD]
    late = deduplicate(accepted).kept.join(published, on=said, how="anti", nulls_equal=True)
    first = accepted.join(late, on=ROW, how="anti").unique(said, keep="first", maintain_order=True)
    known = first.join(published, on=said, how="semi", nulls_equal=True)
    gone = published.join(accepted, on=said, how="anti", nulls_equal=True)
    is_known = pl.col("event_id").is_in(published["event_id"].implode())
    reasons = late.select(ROW, pl.when(is_known).then(pl.lit(CORRECTED)).otherwise(pl.lit(ARRIVED)).alias("reason"))
    found = rows.join(reasons, on=ROW, maintain_order="left").with_columns(pl.lit(None, pl.String).alias("detail"))
    came = _counted(checked.refused.with_columns(pl.struct(SAID).struct.json_encode().alias("raw")))
    stand = _counted(quarantined.select("raw"))
    refused = came.join(stand, on=["raw", "copy"], how="anti", maintain_order="left")
    names = [*SAID, "source_file", "source_row", PARTITION_COLUMN, "reason", "detail"]
    return LateRows(
        rows=pl.concat([found.select(names), refused.select(names)]),
        duplicates=accepted.height - late.height - known.height,
        gone=gone.height + stand.join(came, on=["raw", "copy"], how="anti").height,
    )


def _counted(rows: pl.DataFrame) -> pl.DataFrame:
    """With the number of each row among those that say the same."""
    return rows.with_columns(pl.int_range(pl.len()).over("raw").alias("copy"))
