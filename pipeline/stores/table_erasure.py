"""
Takes erased users out of the lake: out of the rows, out of the old versions, out of files that no commit names.

A commit never says who was taken out: rows are rewritten, day by day, rather than deleted by a condition, because Delta
writes a condition into its log.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from pipeline.contracts import PARTITION_COLUMN, Table
from pipeline.partitions import Day
from pipeline.stores.tables import Lake, kept_out_of_the_log
from pipeline.stores.tombstones import PAYLOAD, USER, Tombstones, users_named

UNFINISHED = timedelta(hours=1)
"""A file that no commit names yet may belong to a write that is under way, unless it is older than this."""

NoteOf = Callable[[Mapping[str, int], Mapping[str, int]], dict[str, str]]
"""(rows taken out of each day, keys that it has left) -> what the commit says about itself"""


def erased_rows_by_day(lake: Lake, table: Table, tombstones: Tombstones) -> dict[str, int]:
    """How many rows of erased users each day holds ("" for a table without days); empty where there is none."""
    if not lake.exists(table):
        return {}
    day = pl.col(PARTITION_COLUMN) if table.daily else pl.lit("").alias(PARTITION_COLUMN)
    frame = lake.versions_of_rows(table).select(*_named(table), day).collect()
    mask = tombstones.erased_rows(table, frame)
    return dict(frame.filter(mask).group_by(PARTITION_COLUMN).len().sort(PARTITION_COLUMN).iter_rows())


def erase_rows(lake: Lake, table: Table, tombstones: Tombstones, note_of: NoteOf) -> dict[str, int]:
    """Rewrite the days that hold rows of erased users without them, in one commit; how many rows by day."""
    by_day = erased_rows_by_day(lake, table, tombstones)
    if not by_day:
        return {}
    rows = lake.versions_of_rows(table)
    if table.daily:
        rows = rows.filter(pl.col(PARTITION_COLUMN).is_in(list(by_day)))
    standing = rows.collect()
    kept = standing.filter(~tombstones.erased_rows(table, standing))
    days = [Day.parse(key) for key in by_day] if table.daily else []
    left: dict[str, int] = {}
    if table.daily:
        left = dict(kept.unique([*table.key, PARTITION_COLUMN]).group_by(PARTITION_COLUMN).len().iter_rows())
    lake.rewrite_days(table, days, kept, note_of(by_day, left))
    return by_day


def forget_versions(lake: Lake, table: Table, tombstones: Tombstones, now: datetime) -> int:
    """Delete the files of all versions but the newest, and what dead writes left of erased users; how many files.

    Older versions cannot be read afterwards. Files that a running write has not committed yet are left alone.
    """
    if not lake.exists(table):
        return 0
    opened = lake.open(table)
    wanted = kept_out_of_the_log(table)
    if {name: opened.metadata().configuration.get(name) for name in wanted} != wanted:
        opened.alter.set_table_properties(wanted)
    gone = len(opened.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False))
    for file in unnamed_files(lake, table):
        is_dead = datetime.fromtimestamp(file.stat().st_mtime, tz=now.tzinfo) < now - UNFINISHED
        if is_dead and holds_erased(file, table, tombstones):
            file.unlink()
            gone += 1
    _clean_log(lake, table)
    return gone


def unnamed_files(lake: Lake, table: Table) -> list[Path]:
    """Data files that the newest version does not name, of a lake in a folder."""
    if "://" in lake.url or not lake.exists(table):
        return []
    named = {Path(uri).resolve() for uri in lake.file_uris(table)}
    found = Path(lake.path(table)).resolve().rglob("*.parquet")
    return sorted(file for file in found if "_delta_log" not in file.parts and file not in named)


def holds_erased(file: Path, table: Table, tombstones: Tombstones) -> bool:
    """Whether a data file holds a row of an erased user; False for one that cannot be read: a torn write."""
    try:
        found = pl.read_parquet(file, columns=[name for name in (USER, PAYLOAD) if name in table.names])
    except (OSError, pl.exceptions.PolarsError):
        return False
    return bool(tombstones.erased_rows(table, found).any())


def hashes_in(lake: Lake, table: Table, tombstones: Tombstones) -> Iterator[str]:
    """The keyed hash of every user that the newest version of a table names."""
    if lake.exists(table):
        named = lake.versions_of_rows(table).select(_named(table)).collect()
        for users in users_named(table, named):
            yield from map(tombstones.hash_of, users.unique().drop_nulls())


def _named(table: Table) -> list[str]:
    return [name for name in (USER, PAYLOAD) if name in table.names]


def _clean_log(lake: Lake, table: Table) -> None:
    """Take statistics of columns that name users out of commits that were written before the table kept them out."""
    if "://" in lake.url:
        return
    for commit in sorted((Path(lake.path(table)) / "_delta_log").glob("*.json")):
        lines = commit.read_text(encoding="utf-8").splitlines()
        cleaned = [_cleaned(line, table) for line in lines]
        if cleaned != lines:
            draft = commit.with_name(f".{commit.name}.{os.getpid()}")
            draft.write_text("\n".join(cleaned) + "\n", encoding="utf-8")
            draft.replace(commit)


def _cleaned(line: str, table: Table) -> str:
    entry = json.loads(line) if line.startswith('{"add"') else {}
    stats = json.loads(entry.get("add", {}).get("stats") or "{}")
    told = {c.name for c in table.columns if c.dtype != pl.String and not isinstance(c.dtype, pl.List)}
    kept = {
        name: {column: v for column, v in value.items() if column in told} if isinstance(value, dict) else value
        for name, value in stats.items()
    }
    if kept == stats:
        return line
    entry["add"]["stats"] = json.dumps(kept, separators=(",", ":"))
    return json.dumps(entry, separators=(",", ":"))
