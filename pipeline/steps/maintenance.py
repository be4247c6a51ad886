"""
Keeps the lake quick and small: many small files of a day become one, and files that no kept version needs are deleted.

Neither changes what a table says. What is kept is what can be read again: a training set is repeated from versions, and
old ones go with their files. Logged look-ups are the exception: they say who was looked up and when, so they are
deleted, in all versions, when they are older than `lookups.keep_days`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from deltalake.exceptions import CommitFailedError
from pydantic import BaseModel, ConfigDict

from pipeline.contracts import LOOKUP_LOG, STORED_TABLES
from pipeline.errors import EngineFailure
from pipeline.observability import get_logger
from pipeline.settings import Settings
from pipeline.stores.tables import Lake, writer_properties_of

UNFINISHED = timedelta(days=1)
"""Of a table whose old versions nobody reads: how long a file may belong to a read or a write that is under way."""

log = get_logger(__name__)


class MaintainedTable(BaseModel):
    """What was done to one table."""

    model_config = ConfigDict(frozen=True)

    table: str
    merged_files: int
    """Small files that were merged into larger ones."""
    written_files: int
    deleted_files: int
    """Files that no version of the kept time needs."""


class Maintained(BaseModel):
    """What was done to the lake."""

    model_config = ConfigDict(frozen=True)

    tables: tuple[MaintainedTable, ...]
    kept_days: float
    forgotten_lookups: int
    """Rows of `lookup_log` that were older than `lookups.keep_days`."""


def maintain_lake(settings: Settings, known_at: datetime) -> Maintained:
    """Merge small files, then delete what no version of the last `stores.keep_versions_days` days needs.

    Before that, logged look-ups that are older than `lookups.keep_days` are deleted.

    Safe to run again, and beside the daily runs: a table that is being written keeps its files for the next time.

    Raises:
        EngineFailure: another writer changed a table while its files were merged. Worth a retry.
    """
    lake, kept = Lake.of(settings), timedelta(days=settings.stores.keep_versions_days)
    forgotten = forget_lookups(lake, known_at - timedelta(days=settings.lookups.keep_days))
    done = []
    for table in STORED_TABLES:
        if not lake.exists(table):
            continue
        delta = lake.open(table)
        try:
            merged = delta.optimize.compact(writer_properties=writer_properties_of(table))
        except CommitFailedError as error:
            raise EngineFailure(
                f"{table.name} was written while its files were merged. Nothing is lost; run it again."
            ) from error
        # `full` also finds what a crash has left: files that no version has ever named.
        hours = int((min(kept, UNFINISHED) if table == LOOKUP_LOG else kept) / timedelta(hours=1))
        deleted = delta.vacuum(retention_hours=hours, dry_run=False, enforce_retention_duration=False, full=True)
        done.append(
            MaintainedTable(
                table=table.name,
                merged_files=merged["numFilesRemoved"],
                written_files=merged["numFilesAdded"],
                deleted_files=len(deleted),
            )
        )
    kept_days = settings.stores.keep_versions_days
    maintained = Maintained(tables=tuple(done), kept_days=kept_days, forgotten_lookups=forgotten)
    log.info("lake maintained", **maintained.model_dump())
    return maintained


def forget_lookups(lake: Lake, before: datetime) -> int:
    """Delete the logged look-ups that were asked before a moment; how many rows. Raises EngineFailure."""
    if not lake.exists(LOOKUP_LOG):
        return 0
    try:
        done = lake.open(LOOKUP_LOG).delete(f"event_timestamp < '{before:%Y-%m-%dT%H:%M:%S.%fZ}'")
    except CommitFailedError as error:
        raise EngineFailure(
            f"{LOOKUP_LOG.name} was written while old look-ups were deleted. Nothing is lost; run it again."
        ) from error
    return done["num_deleted_rows"] or 0
