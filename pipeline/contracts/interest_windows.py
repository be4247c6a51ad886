"""How much each category has occupied a user lately: decayed counts over 7, 30 and 180 days."""

import polars as pl

from pipeline.contracts.table import UTC_TIME, Column, Table

WINDOW_DAYS = (7, 30, 180)
"""The half-lives of the decayed counts, in days. They are part of the columns' names."""

INTEREST_WINDOWS = Table(
    name="interest_windows",
    grain="one user on one active day, as of the day's end",
    key=("user_id", "event_timestamp"),
    owner="ml-platform@example.com",
    keeps_versions=True,
    columns=(
        Column("user_id", pl.String(), "whose interest"),
        Column("categories", pl.List(pl.String()), "every category the user has touched, in alphabetical order"),
        *(
            Column(
                f"counts_{days}d",
                pl.List(pl.Float64()),
                f"weighted events for each of `categories`, halved every {days} days",
            )
            for days in WINDOW_DAYS
        ),
        Column("top_categories", pl.List(pl.String()), "the five largest of `counts_30d`, largest first"),
        Column("entropy", pl.Float64(), "entropy of the shares of `counts_30d`, in nats", minimum=0.0),
        Column("num_events", pl.Int64(), "events of the user so far"),
        Column("active_days", pl.Int64(), "days with an event so far"),
        Column("days_since_previous", pl.Float64(), "days since the active day before", required=False,
               when_null="this is the first active day"),
        Column("event_timestamp", UTC_TIME, "the last microsecond of the day"),
        Column("created", UTC_TIME, "when the platform wrote the row (known_at)"),
    ),
)
