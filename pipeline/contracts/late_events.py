"""What arrived for a day after the lookback had closed it: kept whole, until somebody asks for that day."""

import polars as pl

from pipeline.contracts.table import UTC_TIME, Column, Table

LATE_EVENTS = Table(
    name="late_events",
    grain="one row of a landing file that came too late for its day",
    key=("source_file", "source_row"),
    owner="ml-platform@example.com",
    columns=(
        Column("source_file", pl.String(), "the landing file, relative to the landing folder"),
        Column("source_row", pl.Int64(), "the row in that file, from 0"),
        Column(
            "reason",
            pl.String(),
            "`arrived_after_lookback`, `corrected_after_lookback`, or what the contract says against the row",
        ),
        Column("detail", pl.String(), "the offending value, shortened", required=False, when_null="nothing to show"),
        Column("raw", pl.String(), "the whole row as JSON"),
        Column("contract_version", pl.String(), "the contract that judged it"),
        Column("created", UTC_TIME, "when the platform found it (known_at)"),
    ),
)
"""Its partition is the day for which the file was delivered; the day itself stays as it was published."""
