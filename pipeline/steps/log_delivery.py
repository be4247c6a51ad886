"""
What the collector delivered for some days: the rows of all files as text, and what is wrong with a file as a whole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from pipeline.contracts import BEHAVIOR_EVENTS, PARTITION_COLUMN, QUARANTINED_EVENTS
from pipeline.errors import ContractViolation, InterestError, LogsMissing, UnreadableFile
from pipeline.events.contract_checks import as_landed, require_columns
from pipeline.events.mapping import FileShape
from pipeline.events.quarantine import rows_to_judge_again
from pipeline.events.sources import read_table
from pipeline.partitions import Day
from pipeline.serving.user_ids import UserIds
from pipeline.settings import Settings
from pipeline.stores.landing import Landing
from pipeline.stores.tables import Lake


@dataclass(frozen=True)
class Delivery:
    """Rows in landing columns, as text, with `source_file`, `source_row` and the partition; the rest by day key."""

    rows: pl.DataFrame
    expected_empty: dict[str, bool] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    """Files that could not be read, where the settings say to go on."""
    notes: dict[str, list[str]] = field(default_factory=dict)
    erased: dict[str, int] = field(default_factory=dict)
    """Rows that were delivered, now or earlier, of users who were erased; they are in no file any more."""
    landed: dict[str, str] = field(default_factory=dict)
    """The fingerprint of each day's files, as they were before they were read."""
    refused: dict[str, InterestError] = field(default_factory=dict)
    """Days that cannot be published at all: LogsMissing, UnreadableFile or ContractViolation."""


def read_delivery(days: Sequence[Day], settings: Settings) -> Delivery:
    """Read the landing files of some days. What is wrong with one day is kept by its key and stops no other day.

    Ids become what they are at rest, and rows of erased users go, also in the files.
    """
    landing, users = Landing.of(settings), UserIds.of(settings)
    delivery = Delivery(_no_rows())
    frames = [delivery.rows]
    for day in days:
        delivery.landed[day.key] = landing.fingerprint(day, remember=True)
        files = landing.files(day)
        empty = _is_expected_empty(day, settings) or (landing.says_empty(day) and not files)
        delivery.expected_empty[day.key] = empty
        if not files and not empty:
            delivery.refused[day.key] = LogsMissing(
                f"{BEHAVIOR_EVENTS.name} {day}: {landing.events / day.key} holds no file. Nothing was published. "
                "Wait for the collector; where the day really is empty, put a file named _no_events there."
            )
        try:
            frames += _read_day(day, landing, users, delivery, settings)
            delivery.erased[day.key] = landing.erased(day)
        except (UnreadableFile, ContractViolation) as error:
            delivery.refused[day.key] = type(error)(f"{BEHAVIOR_EVENTS.name} {day}: {error} Nothing was published.")
    rows = pl.concat(frames).filter(~pl.col(PARTITION_COLUMN).is_in(list(delivery.refused)))
    return dataclasses.replace(delivery, rows=rows)


def delivery_from_tables(day: Day, lake: Lake) -> Delivery:
    """What was published and quarantined, as if it were delivered again; for a day whose files are gone."""
    published = as_landed(lake.read(BEHAVIOR_EVENTS, day)).with_columns(
        pl.lit(BEHAVIOR_EVENTS.name).alias("source_file"),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("source_row"),
        pl.lit(day.key).alias(PARTITION_COLUMN),
    )
    refused = lake.read(QUARANTINED_EVENTS, day).with_columns(pl.lit(day.key).alias(PARTITION_COLUMN))
    judged_again = rows_to_judge_again(refused)
    rows = pl.concat([published, judged_again.select(published.columns)])
    return Delivery(rows, {day.key: rows.is_empty()})


def _read_day(
    day: Day, landing: Landing, users: UserIds, delivery: Delivery, settings: Settings
) -> list[pl.DataFrame]:
    frames = []
    notes = delivery.notes.setdefault(day.key, [])
    for file in landing.files(day):
        name = landing.relative(file)
        try:
            rows = read_table(file, FileShape())
        except UnreadableFile as error:
            if settings.logs.unreadable_file == "fail":
                raise
            delivery.skipped[day.key] = delivery.skipped.get(day.key, 0) + 1
            notes.append(f"skipped: {error}")
            continue
        extra = require_columns(rows, name)
        if extra:
            notes.append(f"{name}: extra columns ignored: {', '.join(extra)}")
        frames.append(
            _entering(rows, day, file, landing, users).with_columns(
                pl.lit(name).alias("source_file"),
                pl.int_range(pl.len(), dtype=pl.Int64).alias("source_row"),
                pl.lit(day.key).alias(PARTITION_COLUMN),
            )
        )
    return frames


def _entering(rows: pl.DataFrame, day: Day, file: Path, landing: Landing, users: UserIds) -> pl.DataFrame:
    """The rows as text with ids as they are at rest, without erased users. A file that says otherwise is rewritten."""
    given = rows["user_id"].cast(pl.String)
    keep, stored = ~users.erased(given), users.stored(given)
    landed = as_landed(rows.with_columns(users.root(given).alias("user_id")))
    if not keep.all() or not stored.equals(given, null_equal=True):
        landing.rewrite_users(day, file, stored, keep, landed["event_id"] if users.pseudonyms is not None else None)
    return landed.with_columns(stored.alias("user_id")).filter(keep)


def _no_rows() -> pl.DataFrame:
    place = {"source_file": pl.String(), "source_row": pl.Int64(), PARTITION_COLUMN: pl.String()}
    landed = as_landed(BEHAVIOR_EVENTS.empty())
    return landed.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in place.items()).clear()


def _is_expected_empty(day: Day, settings: Settings) -> bool:
    names = {name.lower() for name in settings.quality.expected_empty_days}
    return day.key in names or f"{day.date:%A}".lower() in names
