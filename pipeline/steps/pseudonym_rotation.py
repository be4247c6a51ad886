"""
Re-keys every place at rest: ids, and pseudonyms of older keys, become pseudonyms of the newest key.

Nothing else may write meanwhile. Safe to repeat, and after a crash: what is by the newest key already stays as it is.
"""

from __future__ import annotations

import json
from datetime import datetime

import polars as pl
from pydantic import BaseModel, ConfigDict

from pipeline.contracts import PARTITION_COLUMN, STORED_TABLES, Table
from pipeline.errors import BadSetting, ContractViolation, UnreadableFile
from pipeline.events.contract_checks import as_landed, require_columns
from pipeline.events.mapping import FileShape
from pipeline.events.sources import read_table
from pipeline.observability import get_logger
from pipeline.partitions import Day
from pipeline.serving.user_ids import UserIds
from pipeline.settings import Settings
from pipeline.stores.keys import add_pseudonym_key
from pipeline.stores.landing import Landing
from pipeline.stores.locks import alone
from pipeline.stores.table_erasure import forget_versions
from pipeline.stores.tables import Lake
from pipeline.stores.tombstones import PAYLOAD, USER, Tombstones, names_users

DAYS_AT_ONCE = 28

log = get_logger(__name__)


class Rotated(BaseModel):
    """What was re-keyed."""

    model_config = ConfigDict(frozen=True)

    files: int
    rows: dict[str, int]
    """Rows by table."""
    served: int
    """Users who are served under another name now."""


def rotate_pseudonyms(settings: Settings, known_at: datetime, new_key: bool) -> Rotated:
    """Add a key, unless it was given by the settings, and re-key the landing files, every table and the online store.

    Raises:
        BadSetting: pseudonyms are off, or the keys are given by the settings and `new_key` asks for one more.
        EngineFailure: a store did not answer. Run it again, without a new key.
    """
    if not settings.privacy.pseudonymise:
        raise BadSetting("`privacy.pseudonymise` is off, so there is no pseudonym. Switch it on first.")
    with alone(settings, "erasure"):
        if new_key:
            add_pseudonym_key(settings)
        users, lake = UserIds.of(settings), Lake.of(settings)
        files = _landing(users, settings)
        rows = {table.name: _table(lake, table, users) for table in STORED_TABLES if names_users(table)}
        served = _online(users, settings, known_at)
        for table in (table for table in STORED_TABLES if rows.get(table.name)):
            forget_versions(lake, table, Tombstones.of(settings), known_at)
    rotated = Rotated(files=files, rows=rows, served=served)
    log.info("pseudonyms rotated", **rotated.model_dump())
    return rotated


def _landing(users: UserIds, settings: Settings) -> int:
    landing, changed = Landing.of(settings), 0
    for day in landing.days():
        for file in landing.files(day):
            try:
                rows = read_table(file, FileShape())
                require_columns(rows, file.name)
            except (UnreadableFile, ContractViolation):
                continue  # as unreadable when its day is published; its ids cannot be told from anything else
            given = rows[USER].cast(pl.String)
            stored = users.stored(given)
            if not stored.equals(given, null_equal=True):
                named = as_landed(rows.with_columns(users.root(given).alias(USER)))["event_id"]
                landing.rewrite_users(day, file, stored, pl.repeat(True, rows.height, eager=True), named)
                changed += 1
    return changed


def _table(lake: Lake, table: Table, users: UserIds) -> int:
    """Month by month, so that memory does not grow with the history."""
    changed, days = 0, lake.days(table) if table.daily else []
    parts = [days[start : start + DAYS_AT_ONCE] for start in range(0, len(days), DAYS_AT_ONCE)]
    for part in parts if table.daily else [[]] if lake.exists(table) else []:
        scan = lake.versions_of_rows(table)
        if table.daily:
            scan = scan.filter(pl.col(PARTITION_COLUMN).is_in([day.key for day in part]))
        standing = scan.collect()
        rekeyed = _rekeyed(standing, table, users)
        if not rekeyed.equals(standing):
            named = [name for name in (USER, PAYLOAD) if name in table.names]
            differs = pl.any_horizontal(standing[name].ne_missing(rekeyed[name]) for name in named)
            changed += int(standing.select(differs).to_series().sum())
            order = [name for name in (PARTITION_COLUMN, *table.key, "created") if name in rekeyed.columns]
            lake.rewrite_days(table, part, rekeyed.sort(order))
    return changed


def _rekeyed(rows: pl.DataFrame, table: Table, users: UserIds) -> pl.DataFrame:
    if USER in table.names:
        rows = rows.with_columns(users.stored(rows[USER]).alias(USER))
    if PAYLOAD in table.names:
        named = rows.select(pl.col(PAYLOAD).str.json_path_match(f"$.{USER}")).to_series()
        stored = users.stored(named)
        payloads = [
            payload if old == new else _with_user(payload, new)
            for payload, old, new in zip(rows[PAYLOAD], named, stored, strict=True)
        ]
        rows = rows.with_columns(pl.Series(PAYLOAD, payloads, dtype=pl.String))
    return rows


def _with_user(payload: str, user: str) -> str:
    """As the quarantine writes it, byte for byte, so that judging the row again finds nothing new."""
    return json.dumps(json.loads(payload) | {USER: user}, ensure_ascii=False, separators=(",", ":"))


def _online(users: UserIds, settings: Settings, known_at: datetime) -> int:
    """The new names are served before the old ones go, so that nobody who asks gets nothing."""
    # Imported here: Feast takes seconds to load.
    from pipeline.steps.online_rebuild import rebuild_online
    from pipeline.stores.feature_store import keys_of_views
    from pipeline.stores.online_erasure import forget_online
    from pipeline.stores.served_rows import served_keys

    rebuild_online(Day.of(known_at), settings)
    views = [view for view, key in keys_of_views(settings).items() if key == USER]
    old = {user for view in views for user in served_keys(settings, view) if users.stored_id(user) != user}
    for user in sorted(old):
        forget_online(settings, user)
    return len(old)
