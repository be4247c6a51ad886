"""
Where every row of a day went. rows in = published + refused + excluded + duplicates, for each day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from pipeline.contracts import PARTITION_COLUMN
from pipeline.events.contract_checks import UniqueRows
from pipeline.partitions import Day

NUMBERS = ("read", "refused", "excluded", "published", "unknown_items", "duplicates", "conflicts")


def daily_counts(
    days: Sequence[Day],
    rows: pl.DataFrame,
    refused: pl.DataFrame,
    unique: UniqueRows,
    items: pl.DataFrame,
    expected_empty: Mapping[str, bool],
) -> pl.DataFrame:
    """One line a day, in order.

    Returns:
        event_date; read; refused (by the contract); excluded (by the mapping); published; unknown_items (published,
        with an item outside ITEMS); duplicates; conflicts (of the duplicates); last_arrival; expected_empty.
    """
    excluded = pl.col("reason").str.starts_with("mapping:")
    unknown = ~pl.col("item_id").is_in(items["item_id"].unique().implode())
    keys = [day.key for day in days]
    counts = pl.DataFrame(
        {PARTITION_COLUMN: keys, "expected_empty": [expected_empty.get(key, False) for key in keys]},
        schema={PARTITION_COLUMN: pl.String(), "expected_empty": pl.Boolean()},
    )
    parts = [
        rows.group_by(PARTITION_COLUMN).agg(pl.len().alias("read")),
        refused.group_by(PARTITION_COLUMN).agg((~excluded).sum().alias("refused"), excluded.sum().alias("excluded")),
        unique.kept.group_by(PARTITION_COLUMN).agg(
            pl.len().alias("published"),
            unknown.sum().alias("unknown_items"),
            pl.col("ingested_at").max().alias("last_arrival"),
        ),
        unique.dropped.group_by(PARTITION_COLUMN).agg(
            pl.len().alias("duplicates"), pl.col("contradicts").sum().alias("conflicts")
        ),
    ]
    for part in parts:
        counts = counts.join(part, on=PARTITION_COLUMN, how="left")
    return counts.with_columns(pl.col(NUMBERS).fill_null(0).cast(pl.Int64)).sort(PARTITION_COLUMN)
