"""What a user has cared about over months, as one vector of one embedding space."""

import polars as pl

from pipeline.contracts.table import UTC_TIME, Column, Table

LONG_TERM_INTEREST = Table(
    name="long_term_interest",
    grain="one user as of the end of one day",
    key=("user_id", "event_timestamp"),
    owner="ml-platform@example.com",
    keeps_versions=True,
    columns=(
        Column("user_id", pl.String(), "whose interest"),
        Column("vector", pl.List(pl.Float32()), "unit length; the output of the long-horizon head"),
        Column("space_id", pl.String(), "compare vectors only when equal"),
        Column("model_version", pl.Int64(), "registered version of interest_evolution"),
        Column("model_cutoff", UTC_TIME, "end of the data that the model was trained and chosen on"),
        Column("event_timestamp", UTC_TIME, "the last microsecond of the day"),
        Column("created", UTC_TIME, "when the platform wrote the row (known_at)"),
    ),
)
