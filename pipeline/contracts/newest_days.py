"""Where each user's newest feature row lies, so that a day's run need not look through the history for it."""

import polars as pl

from pipeline.contracts.table import UTC_TIME, Column, Table

NEWEST_DAYS = Table(
    name="newest_days",
    grain="one user in one table of daily features",
    key=("view", "user_id"),
    owner="ml-platform@example.com",
    columns=(
        Column("view", pl.String(), "the table of features"),
        Column("user_id", pl.String(), "whose rows"),
        Column("event_timestamp", UTC_TIME, "of the user's newest row"),
        Column("as_of", pl.String(), "the table, by its Delta id, and the version that was looked through"),
    ),
    daily=False,
    freshness="",
)
"""An index, made from the tables of features alone. It does not cover what was committed there after `as_of`."""
