"""
Brings somebody's own log into the landing folder, day by day, and its items into the catalogue.

Every row lands. What the mapping or the contract refuses is quarantined, with its reason, when its day is published.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict

from pipeline.contracts import ITEM_VECTORS, ITEMS, PARTITION_COLUMN
from pipeline.errors import BadMapping, ContractViolation, UnreadableFile
from pipeline.events.catalogue import first_events, items_from_events, items_from_file, merged_items
from pipeline.events.item_vectors import vectors_from_file
from pipeline.events.landing import LandingRows, landing_rows, resolve_columns
from pipeline.events.mapping import Mapping
from pipeline.events.sources import read_table
from pipeline.observability import get_logger
from pipeline.partitions import Day, days_between
from pipeline.serving.user_ids import UserIds
from pipeline.settings import Settings
from pipeline.stores.landing import Landing, load_name
from pipeline.stores.tables import Lake

log = get_logger(__name__)


class LoadedLogs(BaseModel):
    """What one `interest load` brought. rows = the sum over all days: nothing is dropped."""

    model_config = ConfigDict(frozen=True)

    name: str
    """Names the load; its files are `<landing>/behavior_events/<day>/<name>.parquet`."""
    rows: int
    first_day: str
    last_day: str
    days: int
    """Days from the first to the last."""
    days_without_events: int
    refused_by_mapping: dict[str, int]
    """Reason and rows. They land, and are quarantined when their day is published."""
    unreadable_times: int
    """Rows without a plausible time; they land in the last day."""
    erased: int = 0
    """Rows of users who were erased. They do not land."""
    items: int
    """Rows of the catalogue now."""
    items_version: int | None
    changed: bool
    """False when the same file had been loaded with the same mapping before."""
    earlier_loads: tuple[str, ...] = ()
    """Loads of the same path with other content, which stay; see `replace`."""


def load_logs(
    events: Path,
    items: Path | None,
    mapping: Mapping,
    settings: Settings,
    known_at: datetime,
    replace: bool = False,
) -> LoadedLogs:
    """Write a log's rows into the landing folder and its items into the lake. Twice is the same as once.

    Args:
        replace: take back what was loaded from the same path before, when the file has been corrected.

    Raises:
        UnreadableFile: a file is missing, empty, truncated or of another encoding.
        BadMapping: a column that the mapping names is not there, or no row has a readable time.
    """
    if items is not None and mapping.items is None:
        raise BadMapping(f"{items} is given, but the mapping has no `items:`. Say there where its columns are.")
    source = read_table(events, mapping.events, mapping.events.explode)
    if source.is_empty():
        raise UnreadableFile(f"{events} has a header and no row. Nothing was loaded; deliver it again.")
    landing, name = Landing.of(settings), load_name(events)
    items_source = read_table(items, mapping.items) if items is not None else None
    landed, erased = _entering(source, mapping, events, settings, known_at)
    days = _days_of(landed, events, settings, known_at)
    # A wrong clock says nothing about the items either.
    landed = dataclasses.replace(landed, moments=landed.moments.set(days.is_null(), None))
    version, catalogue_rows, items_changed = _write_items(landed, items_source, items, mapping, settings)
    plausible = days.drop_nulls()
    first, last = Day.parse(plausible.min()), Day.parse(plausible.max())
    counts = {
        "rows": landed.rows.height,
        "first_day": first.key,
        "last_day": last.key,
        "days": len(list(days_between(first, last))),
        "days_without_events": 0,
        "refused_by_mapping": _refusals(landed),
        "unreadable_times": days.null_count(),
        "erased": erased,
    }
    earlier = _earlier_loads(landing, name, events)
    if replace:
        for other in earlier:
            landing.take_back(other)
            (landing.folder / "_loads" / f"{other}.json").unlink()
        earlier = ()
    rows = landed.rows.with_columns(days.fill_null(last.key).alias(PARTITION_COLUMN))
    changed = _write_days(landing, name, rows, first, last, events.name)
    counts["days_without_events"] = counts["days"] - rows[PARTITION_COLUMN].n_unique()
    record = {"path": str(events.resolve()), "mapping": mapping.digest, "loaded_at": known_at.isoformat(), **counts}
    if changed or landing.load_record(name) is None:
        landing.record_load(name, record)
    log.info("loaded", name=name, rows=counts["rows"], first=first.key, last=last.key, changed=changed)
    return LoadedLogs(
        name=name,
        **counts,
        items=catalogue_rows,
        items_version=version,
        changed=changed or items_changed,
        earlier_loads=earlier,
    )


def _entering(
    source: pl.DataFrame, mapping: Mapping, events: Path, settings: Settings, known_at: datetime
) -> tuple[LandingRows, int]:
    """The rows with ids as they are at rest, and how many there were of erased users. Raises BadMapping."""
    landed, users = landing_rows(source, mapping.events, events.name, known_at), UserIds.of(settings)
    given = landed.rows["user_id"]
    keep = ~users.erased(given)
    if users.pseudonyms is not None:
        # An event id that is derived from the user's must not tell it, and stay the same when keys are rotated.
        named = mapping.events.columns.user_id
        column = resolve_columns(source, [named], events.name)[named]
        named_anew = source.with_columns(users.root(given).alias(column))
        hidden = landing_rows(named_anew, mapping.events, events.name, known_at)
        ids = users.stored(given).alias("user_id")
        landed = dataclasses.replace(landed, rows=landed.rows.with_columns(hidden.rows["event_id"], ids))
    if not keep.any():
        raise ContractViolation(f"{events}: every row is of somebody who was erased. Nothing was loaded.")
    titles = landed.titles.filter(keep) if landed.titles is not None else None
    return LandingRows(landed.rows.filter(keep), landed.moments.filter(keep), titles), int((~keep).sum())


def _days_of(landed: LandingRows, events: Path, settings: Settings, known_at: datetime) -> pl.Series:
    """The day of each row; null where its time cannot be read, or is before the earliest or after the present."""
    latest = known_at + timedelta(minutes=settings.logs.day_end_tolerance_minutes)
    plausible = landed.moments.is_between(settings.logs.earliest_event, latest)
    days = landed.moments.dt.date().cast(pl.String).set((~plausible).fill_null(True), None)
    if days.null_count() == days.len():
        found = landed.rows["event_time"].drop_nulls().head(1).to_list()
        raise BadMapping(
            f"{events}: no row has a plausible time; the first is {found[0] if found else 'missing'!r}. Expected one "
            f"between {settings.logs.earliest_event:%Y-%m-%d} and now. Correct `time:` in the mapping (unit, format)."
        )
    return days


def _write_days(landing: Landing, name: str, rows: pl.DataFrame, first: Day, last: Day, file: str) -> bool:
    by_day = rows.partition_by(PARTITION_COLUMN, as_dict=True, include_key=False)
    changed = False
    for day in days_between(first, last):
        mine = by_day.get((day.key,))
        if mine is not None:
            changed |= landing.put(day, name, mine)
            continue
        changed |= landing.remove(day, name)
        if not landing.files(day):
            landing.say_empty(day, name, f"{file} covers {first} to {last} and has no event on this day.")
    # With another mapping the same file may fall on other days than before.
    here = set(days_between(first, last))
    removed = landing.take_back(name, keep=here)
    return changed or removed > 0


def _write_items(
    landed: LandingRows, source: pl.DataFrame | None, file: Path | None, mapping: Mapping, settings: Settings
) -> tuple[int | None, int, bool]:
    lake, changed = Lake.of(settings), False
    if source is not None:
        asked = (source, mapping.items, file.name, first_events(landed.rows, landed.moments), landed.moments.max())
        arriving = items_from_file(*asked)
        if mapping.items.columns.vectors:
            vectors = merged_items(lake.scan(ITEM_VECTORS).collect(), vectors_from_file(*asked), ITEM_VECTORS)
            changed = lake.overwrite(ITEM_VECTORS, vectors).changed
    elif mapping.events.item_title:
        arriving = items_from_events(landed.rows, landed.moments, landed.titles)
    else:
        arriving = ITEMS.empty()
    standing = lake.scan(ITEMS).collect()
    committed = lake.overwrite(ITEMS, merged_items(standing, arriving))
    return committed.version, committed.rows, committed.changed or changed


def _refusals(landed: LandingRows) -> dict[str, int]:
    refused = landed.rows.drop_nulls("refuse_reason")["refuse_reason"].value_counts().sort("refuse_reason")
    return dict(refused.iter_rows())


def _earlier_loads(landing: Landing, name: str, events: Path) -> tuple[str, ...]:
    records = sorted((landing.folder / "_loads").glob("*.json")) if landing.folder.is_dir() else []
    others = [file.stem for file in records if file.stem != name]
    return tuple(o for o in others if (landing.load_record(o) or {}).get("path") == str(events.resolve()))
