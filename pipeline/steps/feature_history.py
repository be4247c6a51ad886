"""What was known of a user, and when: every version of the user's feature rows, as the tables keep them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict

from pipeline.contracts import MAX_ID_LENGTH, TABLES, UTC_TIME, WITHDRAWN_AT, Table, withdrawn_rows_of
from pipeline.errors import NotFound, UserMistake
from pipeline.serving.user_ids import UserIds
from pipeline.settings import Settings
from pipeline.stores.tables import Lake

USER = "user_id"
HISTORIES = {table.name: table for table in TABLES if table.keeps_versions and USER in table.names}
"""The tables that hold every version of a user's rows, by name."""
BY_MODEL = ("model_version", "model_cutoff", "space_id")
SHOWN = 3
"""Entries of a list that a summary names."""


class KnownRow(BaseModel):
    """One version of one row: what was known from `created` until the next version, or until it was withdrawn."""

    model_config = ConfigDict(frozen=True)

    view: str
    event_timestamp: datetime
    created: datetime
    is_current: bool
    """It stands: no later version corrects it, and it was not withdrawn."""
    withdrawn: datetime | None = None
    """When a restatement took the row out of the table, with all its versions."""
    model_version: int | None = None
    model_cutoff: datetime | None = None
    space_id: str | None = None
    values: dict[str, Any]
    """Numbers and words as they are; of an array its length and its last entries, of a vector its length."""


class FeatureHistory(BaseModel):
    """All versions, by view, event time and the time at which they were written."""

    model_config = ConfigDict(frozen=True)

    user_id: str
    status: Literal["found", "not_found"]
    rows: tuple[KnownRow, ...]


def feature_history(user_id: str, settings: Settings, view: str | None = None) -> FeatureHistory:
    """Every version of the user's rows, of one view or of all.

    Raises:
        NotFound: no such view; the message names those that exist.
        UserMistake: an id that no log can carry.
    """
    if not 0 < len(user_id) <= MAX_ID_LENGTH:
        raise UserMistake(f"A user id has 1 to {MAX_ID_LENGTH} characters, not {len(user_id)}.")
    if view is not None and view not in HISTORIES:
        raise NotFound(f"No view {view!r} keeps the versions of a user's rows. Those that do: {', '.join(HISTORIES)}.")
    lake, stored = Lake.of(settings), UserIds.of(settings).stored_id(user_id)
    tables = [table for name, table in HISTORIES.items() if view in (None, name)]
    rows = tuple(row for table in tables for row in _versions(lake, table, stored))
    return FeatureHistory(user_id=user_id, status="found" if rows else "not_found", rows=rows)


def _versions(lake: Lake, table: Table, stored_id: str) -> Iterator[KnownRow]:
    standing, beside = (
        lake.scan(held).filter(pl.col(USER) == stored_id).collect() for held in (table, withdrawn_rows_of(table))
    )
    newest = pl.col("created") == pl.col("created").max().over("event_timestamp")
    stands = standing.with_columns(newest.alias("is_current"), pl.lit(None, UTC_TIME).alias(WITHDRAWN_AT))
    # What is in both still stands: the write that was to withdraw it died.
    gone = beside.join(standing, on=["event_timestamp", "created"], how="anti").with_columns(is_current=pl.lit(False))
    found = pl.concat([stands, gone.select(stands.columns)]).sort("event_timestamp", "created")
    for row in found.iter_rows(named=True):
        aside = (USER, "event_timestamp", "created", "is_current", WITHDRAWN_AT, *BY_MODEL)
        yield KnownRow(
            view=table.name,
            **{name: row[name] for name in ("event_timestamp", "created", "is_current", WITHDRAWN_AT)},
            **{name: row[name] for name in BY_MODEL if name in row},
            values={name: _summary(value) for name, value in row.items() if name not in aside},
        )


def _summary(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    if value and isinstance(value[0], float):
        return {"length": len(value)}
    return {"length": len(value), "last": value[-SHOWN:]}
