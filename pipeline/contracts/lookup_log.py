"""Answered look-ups, kept so that they can be compared with the tables later; and what came of it."""

import polars as pl

from pipeline.contracts.online_parity import ONLINE_PARITY
from pipeline.contracts.table import UTC_TIME, Column, Table

LOOKUP_LOG = Table(
    name="lookup_log",
    grain="what one view answered to one look-up",
    key=("lookup_id", "view"),
    owner="ml-platform@example.com",
    daily=False,
    freshness="",
    columns=(
        Column("lookup_id", pl.String(), "names the look-up"),
        Column("user_id", pl.String(), "who was looked up"),
        Column("service", pl.String(), "the feature service that was asked; empty where features were named"),
        Column("view", pl.String(), "the feature view that answered"),
        Column("features", pl.List(pl.String()), "the features of the view that were asked for"),
        Column("served_at", UTC_TIME, "event time of the row that was served", required=False,
               when_null="nothing was served"),
        Column("served", pl.String(), "the values that were served, as a JSON object", required=False,
               when_null="nothing was served"),
        Column("event_timestamp", UTC_TIME, "when it was asked"),
        Column("created", UTC_TIME, "when it was asked"),
    ),
)

LOOKUP_PARITY = Table(
    name="lookup_parity",
    grain="the answers of one feature view to one service on one day",
    key=("service", "view"),
    owner="ml-platform@example.com",
    freshness="",
    columns=(
        Column("service", pl.String(), "the feature service that was asked; empty where features were named"),
        Column("view", pl.String(), "the feature view that answered"),
        Column("sampled", pl.Int64(), "logged answers of the day", minimum=0),
        *(column for column in ONLINE_PARITY.columns if column.name not in ("view", "sampled")),
    ),
)
