"""A user's last events, as of the end of a day on which the user was active."""

import polars as pl

from pipeline.contracts.table import UTC_TIME, Column, Table

SEQUENCE_FEATURES = Table(
    name="sequence_features",
    grain="one user on one active day, as of the day's end",
    key=("user_id", "event_timestamp"),
    owner="ml-platform@example.com",
    keeps_versions=True,
    columns=(
        Column("user_id", pl.String(), "whose events"),
        Column("item_ids", pl.List(pl.String()), "items of the last events, oldest first"),
        Column("event_types", pl.List(pl.String()), "types of the same events"),
        Column("event_times", pl.List(UTC_TIME), "times of the same events"),
        Column("num_events", pl.Int64(), "events in the arrays"),
        Column("event_timestamp", UTC_TIME, "the last microsecond of the day"),
        Column("created", UTC_TIME, "when the platform wrote the row (known_at)"),
    ),
)
