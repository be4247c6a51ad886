"""
The landing folder: where the collector, or `interest load`, drops the files of a day.

    <landing>/behavior_events/2026-03-01/*.parquet|csv|jsonl     the day's files, read together
    <landing>/behavior_events/2026-03-01/_no_events              says that the day is complete and empty
    <landing>/behavior_events/2026-03-01/_contents.json          digests of the files, as they were delivered
    <landing>/behavior_events/2026-03-01/_erased.json            how many rows of erased users each file held
    <landing>/_loads/<name>.json                                 what `interest load` brought, and from where

A file whose name begins with `_` or `.` is not data: write to such a name, then rename.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from pathlib import Path

import polars as pl

from pipeline.contracts import BEHAVIOR_EVENTS
from pipeline.errors import BadPartition, BadSetting
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.stores.landing_contents import Contents
from pipeline.stores.landing_files import USER, rewrite_users
from pipeline.stores.tombstones import Tombstones

NO_EVENTS = "_no_events"
ERASED = "_erased.json"
GONE = "_gone."
"""Before the name of a file of which an erasure left nothing: an empty mark."""


class Landing:
    """The files of every day below one folder. With `tombstones`, it takes no row of an erased user."""

    def __init__(self, folder: Path, tombstones: Tombstones | None = None):
        self.folder, self.tombstones = folder, tombstones
        self.events = folder / BEHAVIOR_EVENTS.name

    @classmethod
    def of(cls, settings: Settings) -> Landing:
        """The folder that the settings name."""
        return cls(settings.landing_path, Tombstones.of(settings))

    def days(self) -> list[Day]:
        """The days that the collector has delivered, also those without an event."""
        found = []
        for entry in self.events.iterdir() if self.events.is_dir() else ():
            try:
                found.append(Day.parse(entry.name))
            except BadPartition:
                continue
        return sorted(day for day in found if self.files(day) or self.says_empty(day))

    def files(self, day: Day) -> list[Path]:
        """The data files of a day, by name."""
        place = self.events / day.key
        entries = place.iterdir() if place.is_dir() else ()
        return sorted(entry for entry in entries if entry.is_file() and not entry.name.startswith(("_", ".")))

    def says_empty(self, day: Day) -> bool:
        """Whether somebody who knows the log says that this day has no event."""
        return (self.events / day.key / NO_EVENTS).is_file()

    def fingerprint(self, day: Day, remember: bool = False) -> str:
        """Changes when a file of the day is added, replaced or removed, and not by an erasure; empty without files.

        It is made from what the files hold, not from when they came. With `remember` the next call need not read them.
        """
        contents, files = Contents(self.events / day.key), self.files(day)
        gone = [mark.name.removeprefix(GONE) for mark in (self.events / day.key).glob(f"{GONE}*")]
        held = {name: contents.of_removed(name) for name in gone} | {file.name: contents.of(file) for file in files}
        if remember and held:
            contents.remember(held)
        return hashlib.sha256(repr(sorted(held.items())).encode()).hexdigest()[:12] if held else ""

    def relative(self, file: Path) -> str:
        return file.relative_to(self.folder).as_posix()

    def put(self, day: Day, name: str, rows: pl.DataFrame) -> bool:
        """Make `rows` the content of one file of a day; False where it says the same already, whenever it came."""
        place = self.events / day.key / f"{name}.parquet"
        if self.tombstones is not None and USER in rows.columns:
            rows = rows.filter(~self.tombstones.erased(rows[USER]))
        said = [column for column in rows.columns if column != "ingested_at"]
        if place.is_file() and pl.read_parquet(place, columns=said).equals(rows.select(said)):
            return False
        scratch = place.with_name(f"_{name}.{os.getpid()}.parquet")
        self._make(place.parent)
        rows.write_parquet(scratch)
        scratch.replace(place)
        return True

    def rewrite_users(
        self, day: Day, file: Path, user_ids: pl.Series, keep: pl.Series, event_ids: pl.Series | None = None
    ) -> None:
        """Give the rows of a file these users and leave out those that are not kept, which are counted as erased.

        A file of which nothing is left is removed; where it was the day's only one, the day is marked as empty.
        """
        gone = len(keep) - int(keep.sum())
        contents = Contents(file.parent)
        delivered = contents.of(file)
        if gone:
            counts = self._erased_by_file(day)
            counts[file.name] = counts.get(file.name, 0) + gone
            scratch = self.events / day.key / f"{ERASED}.{os.getpid()}"
            scratch.write_text(json.dumps(counts, sort_keys=True), encoding="utf-8")
            scratch.replace(self.events / day.key / ERASED)
        if keep.any() or keep.is_empty():
            rewrite_users(file, user_ids, keep, event_ids)
            contents.is_rewritten(file, delivered)
        else:
            if self.files(day) == [file]:
                self.say_empty(day, "erasure", "every event of this day was of somebody who was erased.")
            file.with_name(f"{GONE}{file.name}").touch()
            file.unlink()
        contents.remember()

    def erased(self, day: Day) -> int:
        """How many delivered rows of a day were taken out because their users were erased."""
        return sum(self._erased_by_file(day).values())

    def _erased_by_file(self, day: Day) -> dict[str, int]:
        place = self.events / day.key / ERASED
        return json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}

    def remove(self, day: Day, name: str) -> bool:
        """Remove one file of a day; False where there is none."""
        place = self.events / day.key / f"{name}.parquet"
        there = place.is_file()
        place.unlink(missing_ok=True)
        return there

    def say_empty(self, day: Day, name: str, why: str) -> None:
        """Mark a day as complete and empty, in the name of a load; a mark that is there already stays."""
        place = self.events / day.key / NO_EVENTS
        if not place.is_file():
            self._make(place.parent)
            place.write_text(f"{name}: {why}\n", encoding="utf-8")

    def take_back(self, name: str, keep: Collection[Day] = ()) -> int:
        """Remove an earlier load's files and its marks of empty days, except on the days of `keep`; how many."""
        files = list(self.events.glob(f"*/{name}.parquet"))
        marks = [
            mark
            for mark in self.events.glob(f"*/{NO_EVENTS}")
            if mark.read_text(encoding="utf-8", errors="replace").startswith(f"{name}: ")
        ]
        wrong = [entry for entry in (*files, *marks) if Day.parse(entry.parent.name) not in keep]
        for entry in wrong:
            entry.unlink()
        return len(wrong)

    def load_record(self, name: str) -> dict | None:
        """What was written down about an earlier load; None where there was none, or it did not end."""
        place = self.folder / "_loads" / f"{name}.json"
        return json.loads(place.read_text(encoding="utf-8")) if place.is_file() else None

    def record_load(self, name: str, record: dict) -> None:
        place = self.folder / "_loads" / f"{name}.json"
        self._make(place.parent)
        scratch = place.with_suffix(f".{os.getpid()}.tmp")
        scratch.write_text(json.dumps(record, indent=1, sort_keys=True), encoding="utf-8")
        scratch.replace(place)

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadSetting(
                f"The landing folder {self.folder} cannot be written: {error.strerror}. "
                "Correct `stores.landing` or the rights of the folder."
            ) from error


def load_name(file: Path) -> str:
    """A name for the content of a file: the same wherever it lies, another as soon as a byte differs."""
    stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in file.stem)[:60].lstrip("_.") or "log"
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return f"{stem}-{digest.hexdigest()[:8]}"
