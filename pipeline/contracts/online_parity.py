"""How the online store compared with the tables behind it, by view and day."""

import polars as pl

from pipeline.contracts.table import UTC_TIME, Column, Table

ONLINE_PARITY = Table(
    name="online_parity",
    grain="one feature view on one day's comparison",
    key=("view",),
    owner="ml-platform@example.com",
    columns=(
        Column("view", pl.String(), "the feature view that was compared"),
        Column("sampled", pl.Int64(), "entities compared, chosen by the hash of day and key", minimum=0),
        Column("equal", pl.Int64(), "served with the event time and every value of the newest offline row", minimum=0),
        Column("mismatched", pl.Int64(), "served with another event time or another value", minimum=0),
        Column("missing", pl.Int64(), "in the table and not served", minimum=0),
        Column("extra", pl.Int64(), "served and not in the table", minimum=0),
        Column("mismatched_columns", pl.List(pl.String()), "the columns that differed, in the contract's order"),
        Column("largest_edit_distance", pl.Float64(), "of the sequences that differed, as a share of the longer one",
               required=False, minimum=0.0, maximum=1.0, when_null="no sequence differed"),
        Column("least_cosine", pl.Float64(), "of the vectors that differed", required=False,
               when_null="no vector differed"),
        Column("event_timestamp", UTC_TIME, "the last microsecond of the day"),
        Column("created", UTC_TIME, "when the platform compared (known_at)"),
    ),
)
