"""
Every place that may hold something of a user, each with the same three verbs: count, remove, and look at what is left.

What is left is looked for by keyed hash, so that it can be done later by somebody who does not know the id.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from pipeline.contracts import BEHAVIOR_EVENTS, PARTITION_COLUMN, STORED_TABLES, TABLES, Table
from pipeline.errors import ContractViolation, UnreadableFile
from pipeline.events.contract_checks import require_columns
from pipeline.events.mapping import FileShape
from pipeline.events.sources import read_table
from pipeline.faults import reach
from pipeline.partitions import Day
from pipeline.privacy.receipts import words_of
from pipeline.serving.user_ids import UserIds
from pipeline.settings import Settings
from pipeline.steps.catalog import catalogue_made_before
from pipeline.steps.erasure_ledger import hear_of_events, lines_after, note_after
from pipeline.steps.ledger_news import catch_up
from pipeline.stores.landing import Landing
from pipeline.stores.landing_files import rewrite_users
from pipeline.stores.ledger import Ledger
from pipeline.stores.table_erasure import (
    erase_rows,
    erased_rows_by_day,
    forget_versions,
    hashes_in,
    holds_erased,
    unnamed_files,
)
from pipeline.stores.tables import Lake
from pipeline.stores.tombstones import Tombstones, names_users

PAGES = ("reports", "data_docs", "catalog")
"""Folders of pages that are made anew whenever somebody wants them."""
APART = ("lake", "landing", "secrets", "receipts", "locks")
"""Folders that have places of their own, or hold no word of a user."""
TEXT_ENDINGS = (".html", ".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".log", ".md", ".js", ".yaml", ".yml")
LINE_BY_LINE = (".log", ".jsonl", ".ndjson")
"""A line of these may go without harm to the others."""
READ_ENDINGS = (*TEXT_ENDINGS, ".parquet")


@dataclass(frozen=True)
class PlaceOf:
    """How one place is counted and emptied; `left` takes keyed hashes, so it needs no id."""

    name: str
    count: Callable[[], int]
    remove: Callable[[], None]
    left: Callable[[frozenset[str]], int]


def places_of(
    user_id: str | None, settings: Settings, known_at: datetime, is_text: bool
) -> tuple[list[PlaceOf], list[str]]:
    """The places in the order in which they are emptied, and the landing files that cannot be read.

    Args:
        user_id: as it is at rest; None when it is not known and the places are only looked at.
        is_text: whether pages and logs are searched for it word by word.
    """
    lake, tombstones = Lake.of(settings), Tombstones.of(settings)
    landing = _Landed(settings)
    places = [PlaceOf("landing files", landing.count, landing.remove, landing.left)]
    stored = [table for table in STORED_TABLES if table in TABLES or lake.exists(table)]
    for table in (table for table in stored if names_users(table)):
        places += _of_table(table, lake, landing, settings, known_at)
    places += [_online(user_id, settings), _catalogue(settings, tombstones)]
    if is_text:
        places += [_pages(settings, tombstones), _files(settings, tombstones)]
    return places, landing.unreadable


class _Landed:
    """The landing files. What is taken out moves later rows up, which the quarantine counts by."""

    def __init__(self, settings: Settings):
        self.landing, self.users = Landing.of(settings), UserIds.of(settings)
        self.gone: dict[str, list[int]] = {}
        self.unreadable: list[str] = []

    def count(self) -> int:
        return sum(int(mask.sum()) for _, _, _, mask in self._erased())

    def remove(self) -> None:
        for day, file, rows, mask in self._erased():
            if mask.any():
                self.gone[self.landing.relative(file)] = mask.arg_true().to_list()
                self.landing.rewrite_users(day, file, rows, ~mask)

    def left(self, hashes: frozenset[str]) -> int:
        found = 0
        for _, _, users in self._files():
            counts = users.drop_nulls().value_counts(name="rows")
            names = counts.to_series(0)
            found += sum(rows for user, rows in zip(names, counts["rows"], strict=True) if self._is_in(user, hashes))
        return found

    def _is_in(self, user: str, hashes: frozenset[str]) -> bool:
        every = [user] if self.users.pseudonyms is None else [user, *self.users.pseudonyms.every_id(user)]
        return any(self.users.tombstones.hash_of(name) in hashes for name in every)

    def _erased(self) -> Iterator[tuple[Day, Path, pl.Series, pl.Series]]:
        for day, file, users in self._files():
            yield day, file, users, self.users.erased(users)

    def _files(self) -> Iterator[tuple[Day, Path, pl.Series]]:
        self.unreadable = []
        for day in self.landing.days():
            for file in self.landing.files(day):
                try:
                    rows = read_table(file, FileShape())
                    require_columns(rows, file.name)
                except (UnreadableFile, ContractViolation):
                    self.unreadable.append(self.landing.relative(file))
                else:
                    yield day, file, rows["user_id"].cast(pl.String)


def _of_table(table: Table, lake: Lake, landing: _Landed, settings: Settings, known_at: datetime) -> list[PlaceOf]:
    """The rows that count, and what older versions and unfinished writes hold."""
    tombstones, ledger = Tombstones.of(settings), Ledger(settings.ledger_url)

    def remove() -> None:
        lines = []

        def note(gone: dict[str, int], left: dict[str, int]) -> dict[str, str]:
            lines.extend(lines_after(ledger, table, gone, left, known_at) if table.daily else [])
            return {"erasure": known_at.isoformat(), **note_after(table, lines)}

        catch_up(lake, ledger, table)
        hear_of_events(lake, ledger, table)
        if erase_rows(lake, table, tombstones, note):
            reach("erase.after_commit")
            ledger.record_partitions([
                line.model_copy(update={"version": lake.version(table)}) if line.table_name == table.name else line
                for line in lines
            ])
        _renumber(lake, table, landing.gone)

    def old_files_left(hashes: frozenset[str]) -> int:
        return sum(holds_erased(file, table, tombstones) for file in unnamed_files(lake, table))

    return [
        PlaceOf(
            table.name,
            lambda: sum(erased_rows_by_day(lake, table, tombstones).values()),
            remove,
            lambda hashes: sum(found in hashes for found in hashes_in(lake, table, tombstones)),
        ),
        PlaceOf(
            f"{table.name}: old versions",
            lambda: len(unnamed_files(lake, table)),
            lambda: forget_versions(lake, table, tombstones, known_at),
            old_files_left,
        ),
    ]


def _renumber(lake: Lake, table: Table, gone: dict[str, list[int]]) -> None:
    """Let refused rows count by the files as they are now, so that reading these again changes nothing."""
    if not gone or not {"source_file", "source_row"} <= set(table.names) or not lake.exists(table):
        return
    rows = lake.versions_of_rows(table)
    named = rows.filter(pl.col("source_file").is_in(list(gone))).select(PARTITION_COLUMN).unique().collect()
    days = [Day.parse(key) for key in named[PARTITION_COLUMN]]
    if not days:
        return
    standing = rows.filter(pl.col(PARTITION_COLUMN).is_in([day.key for day in days])).collect()
    moved = [
        row - sum(1 for other in gone.get(file, ()) if other < row)
        for file, row in standing.select("source_file", "source_row").iter_rows()
    ]
    lake.rewrite_days(table, days, standing.with_columns(pl.Series("source_row", moved, dtype=pl.Int64)))


def _online(user_id: str | None, settings: Settings) -> PlaceOf:
    # Imported when it is used: Feast takes seconds to load.
    def left(hashes: frozenset[str]) -> int:
        from pipeline.stores.online_erasure import hashes_online

        return sum(found in hashes for found in hashes_online(settings, Tombstones.of(settings)))

    def count() -> int:
        return left(frozenset({Tombstones.of(settings).hash_of(user_id)}))

    def remove() -> None:
        from pipeline.stores.online_erasure import forget_online

        forget_online(settings, user_id)

    return PlaceOf("online store", count, remove, left)


def _catalogue(settings: Settings, tombstones: Tombstones) -> PlaceOf:
    """It shows values of a few users without their ids, so one that was made before an erasure goes whole."""

    def old(hashes: frozenset[str]) -> list[Path]:
        moments = [tombstone.erased_at for tombstone in tombstones.all() if tombstone.keyed_hash in hashes]
        return catalogue_made_before(settings, max(moments)) if moments else []

    def remove() -> None:
        for file in old(tombstones.hashes()):
            file.unlink(missing_ok=True)

    return PlaceOf(
        "feature catalogue", lambda: len(old(tombstones.hashes())), remove, lambda hashes: len(old(hashes))
    )


def _pages(settings: Settings, tombstones: Tombstones) -> PlaceOf:
    def holding(hashes: frozenset[str]) -> list[Path]:
        folders = [settings.place(name) for name in PAGES]
        found = [file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]
        return [file for file in found if _names(file.read_bytes(), hashes, tombstones)]

    def remove() -> None:
        for file in holding(tombstones.hashes()):
            file.unlink()

    return PlaceOf(
        "reports and data docs", lambda: len(holding(tombstones.hashes())), remove, lambda hashes: len(holding(hashes))
    )


def _files(settings: Settings, tombstones: Tombstones) -> PlaceOf:
    """Everything else at home, logs and artifacts: lines of text go; another file is only told of, never changed."""

    def lines(hashes: frozenset[str]) -> Iterator[tuple[Path, int]]:
        for file in _other_files(settings):
            content = _read(file)
            if file.suffix.lower() == ".parquet":
                if named := int(_erased_in(file, hashes, tombstones).sum()):
                    yield file, named
            elif content and _names(content, hashes, tombstones):
                named = sum(_names(line, hashes, tombstones) for line in content.split(b"\n"))
                yield file, max(int(named), 1)

    def remove() -> None:
        hashes = tombstones.hashes()
        for file, _ in list(lines(hashes)):
            if file.suffix.lower() == ".parquet":
                rewrite_users(file, pl.read_parquet(file)["user_id"], ~_erased_in(file, hashes, tombstones))
            elif file.suffix.lower() in LINE_BY_LINE:
                kept = [line for line in file.read_bytes().split(b"\n") if not _names(line, hashes, tombstones)]
                _replace(file, b"\n".join(kept))

    return PlaceOf(
        "logs and artifacts",
        lambda: sum(named for _, named in lines(tombstones.hashes())),
        remove,
        lambda hashes: sum(named for _, named in lines(hashes)),
    )


def _erased_in(file: Path, hashes: frozenset[str], tombstones: Tombstones) -> pl.Series:
    """A mask over the rows of a Parquet file that somebody saved; empty where it names no user."""
    try:
        users = pl.read_parquet(file, columns=["user_id"])["user_id"]
    except (OSError, pl.exceptions.PolarsError):
        return pl.Series([], dtype=pl.Boolean)
    gone = [user for user in users.cast(pl.String).unique().drop_nulls() if tombstones.hash_of(user) in hashes]
    return users.cast(pl.String).is_in(gone).fill_null(False)


def _other_files(settings: Settings) -> Iterable[Path]:
    home = settings.place("")
    for entry in sorted(home.iterdir()) if home.is_dir() else ():
        if entry.name in (*APART, *PAGES):
            continue
        found = sorted(entry.rglob("*")) if entry.is_dir() else [entry]
        yield from (f for f in found if f.suffix.lower() in READ_ENDINGS and f.is_file() and not f.is_symlink())


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # a file that is gone again holds nothing
        return b""


def _names(content: bytes, hashes: frozenset[str], tombstones: Tombstones) -> bool:
    return any(tombstones.hash_of(word) in hashes for word in words_of(content))


def _replace(file: Path, content: bytes) -> None:
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.write_bytes(content)
    draft.replace(file)


def first_event(lake: Lake, user_id: str) -> datetime | None:
    """When a user was first seen, of the events that are published."""
    return lake.scan(BEHAVIOR_EVENTS).filter(user_id=user_id).select(pl.col("event_time").min()).collect().item()
