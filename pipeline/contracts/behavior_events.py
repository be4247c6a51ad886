"""The behaviour log: what users did, what was refused, and why."""

import polars as pl

from pipeline.contracts.table import UTC_TIME, Column, Table

MAX_ID_LENGTH = 256

_EVENT_COLUMNS = (
    Column("event_id", pl.String(), "names the event; derived from the row where the log has none", max_length=256),
    Column("user_id", pl.String(), "who acted", max_length=MAX_ID_LENGTH),
    Column("item_id", pl.String(), "what was acted on", max_length=MAX_ID_LENGTH),
    Column("event_type", pl.String(), "what the user did; the allowed ones and their weights are a setting"),
    Column("event_time", UTC_TIME, "when the user did it"),
    Column(
        "value", pl.Float64(), "seconds, stars or money, by event type", required=False, when_null="nothing measured"
    ),
    Column("ingested_at", UTC_TIME, "when the collector received it"),
)

BEHAVIOR_EVENTS = Table(
    name="behavior_events",
    grain="one action of one user on one item",
    key=("event_id",),
    owner="ml-platform@example.com",
    columns=_EVENT_COLUMNS,
)

QUARANTINED_EVENTS = Table(
    name="quarantined_events",
    grain="one refused row of a landing file",
    key=("source_file", "source_row"),
    owner="ml-platform@example.com",
    columns=(
        Column("source_file", pl.String(), "the landing file, relative to the landing folder"),
        Column("source_row", pl.Int64(), "the row in that file, from 0"),
        Column("reason", pl.String(), "reason code, for example `event_time_outside_day`"),
        Column("detail", pl.String(), "the offending value, shortened", required=False, when_null="nothing to show"),
        Column("raw", pl.String(), "the whole row as JSON, so that it can be replayed"),
        Column("contract_version", pl.String(), "the contract that refused it"),
        Column("created", UTC_TIME, "when it was refused"),
    ),
)
