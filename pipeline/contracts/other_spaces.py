"""
Long-term interest that is not simply the day's own: re-encoded by a later model, or mapped into an older space.

Both have tables of their own, so that nobody reads them without having asked for them.
"""

import polars as pl

from pipeline.contracts.long_term_interest import LONG_TERM_INTEREST
from pipeline.contracts.table import UTC_TIME, Column, Table

LONG_TERM_INTEREST_REENCODED = Table(
    name="long_term_interest_reencoded",
    grain="one user as of the end of one day, re-encoded by a model that was trained later",
    key=LONG_TERM_INTEREST.key,
    owner=LONG_TERM_INTEREST.owner,
    keeps_versions=True,
    freshness="",
    columns=LONG_TERM_INTEREST.columns,
)

LONG_TERM_INTEREST_MAPPED = Table(
    name="long_term_interest_mapped",
    grain="one user as of the end of one day, mapped into the space of the release before",
    key=LONG_TERM_INTEREST.key,
    owner=LONG_TERM_INTEREST.owner,
    keeps_versions=True,
    freshness="",
    columns=(
        Column("user_id", pl.String(), "whose interest"),
        Column("vector", pl.List(pl.Float32()), "unit length; the vector of long_term_interest, rotated"),
        Column("space_id", pl.String(), "the older space that the vector was mapped into"),
        Column("mapped_from", pl.String(), "the space that the model encoded it in"),
        Column("model_version", pl.Int64(), "registered version of interest_evolution that encoded it"),
        Column("model_cutoff", UTC_TIME, "end of the data that the model was trained and chosen on"),
        Column("event_timestamp", UTC_TIME, "the last microsecond of the day"),
        Column("created", UTC_TIME, "when the platform wrote the row (known_at)"),
    ),
)
