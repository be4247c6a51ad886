"""
Keeps the lake quick and small: many small files of a day become one, and files that no kept version needs are deleted.

Neither changes what a table says. What is kept is what can be read again: a training set is repeated from versions, and
old ones go with their files.
"""

from __future__ import annotations

from datetime import timedelta

from deltalake.exceptions import CommitFailedError
from pydantic import BaseModel, ConfigDict

from pipeline.contracts import STORED_TABLES
from pipeline.errors import EngineFailure
from pipeline.observability import get_logger
from pipeline.settings import Settings
from pipeline.stores.tables import Lake

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


def maintain_lake(settings: Settings) -> Maintained:
    """Merge small files, then delete what no version of the last `stores.keep_versions_days` days needs.

    Safe to run again, and beside the daily runs: a table that is being written keeps its files for the next time.

    Raises:
        EngineFailure: another writer changed a table while its files were merged. Worth a retry.
    """
    lake, kept = Lake.of(settings), timedelta(days=settings.stores.keep_versions_days)
    done = []
    for table in STORED_TABLES:
        if not lake.exists(table):
            continue
        delta = lake.open(table)
        try:
            merged = delta.optimize.compact()
        except CommitFailedError as error:
            raise EngineFailure(
                f"{table.name} was written while its files were merged. Nothing is lost; run it again."
            ) from error
        # `full` also finds what a crash has left: files that no version has ever named.
        hours = int(kept / timedelta(hours=1))
        deleted = delta.vacuum(retention_hours=hours, dry_run=False, enforce_retention_duration=False, full=True)
        done.append(
            MaintainedTable(
                table=table.name,
                merged_files=merged["numFilesRemoved"],
                written_files=merged["numFilesAdded"],
                deleted_files=len(deleted),
            )
        )
    maintained = Maintained(tables=tuple(done), kept_days=settings.stores.keep_versions_days)
    log.info("lake maintained", **maintained.model_dump())
    return maintained
