"""The best items for a user as of the end of a day, best first."""

import polars as pl

from pipeline.contracts.table import UTC_TIME, Column, Table

RECOMMENDATIONS = Table(
    name="recommendations",
    grain="one user as of the end of one day",
    key=("user_id", "event_timestamp"),
    owner="ml-platform@example.com",
    keeps_versions=True,
    columns=(
        Column("user_id", pl.String(), "for whom"),
        Column("item_ids", pl.List(pl.String()), "recommended items, best first"),
        Column("scores", pl.List(pl.Float32()), "hybrid score of the same items, falling unless lists are diversified"),
        Column("space_id", pl.String(), "the one space of user vector, item index and CF factors"),
        Column("model_version", pl.Int64(), "registered version of collaborative_filter"),
        Column("model_cutoff", UTC_TIME, "end of the data that the models were trained and chosen on"),
        Column("event_timestamp", UTC_TIME, "the last microsecond of the day"),
        Column("created", UTC_TIME, "when the platform wrote the row (known_at)"),
    ),
)
