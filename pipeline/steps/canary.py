"""The first partition of a backfill, made without being written, beside what stands."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import polars as pl

from pipeline.backfill.compare import Difference, compare_partition
from pipeline.contracts import (
    BEHAVIOR_EVENTS,
    INTEREST_WINDOWS,
    LONG_TERM_INTEREST,
    RECOMMENDATIONS,
    SEQUENCE_FEATURES,
    Table,
)
from pipeline.events.contract_checks import RowRules, check_rows, deduplicate
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.steps.log_delivery import read_delivery
from pipeline.steps.sequence_features import draft_features
from pipeline.stores.tables import Lake

FEATURES = (SEQUENCE_FEATURES, INTEREST_WINDOWS)


def try_day(day: Day, tables: Collection[str], settings: Settings, known_at: datetime) -> list[Difference]:
    """How a day of these tables would differ from what stands. Nothing is written.

    Raises as the steps that would write it do.
    """
    lake = Lake.of(settings)
    drafts = draft_day(day, tables, settings, known_at)
    return [
        compare_partition(table, day.key, _standing(lake, table, day), _kept(lake, table, rows))
        for table, rows in drafts.items()
    ]


def draft_day(
    day: Day, tables: Collection[str], settings: Settings, known_at: datetime
) -> dict[Table, pl.DataFrame]:
    """The rows that the steps would write, each table made from the drafts of those before it."""
    drafts: dict[Table, pl.DataFrame] = {}
    if BEHAVIOR_EVENTS.name in tables:
        drafts[BEHAVIOR_EVENTS] = draft_events(day, settings)
    if wanted := [table for table in FEATURES if table.name in tables]:
        features = draft_features(day, settings, known_at, drafts.get(BEHAVIOR_EVENTS))
        drafts |= {table: features[table] for table in wanted}
    sequences = drafts.get(SEQUENCE_FEATURES)
    # Imported here: models take seconds to load, and many backfills need none.
    if LONG_TERM_INTEREST.name in tables:
        from pipeline.steps.long_term_interest import draft_interest

        drafts[LONG_TERM_INTEREST] = draft_interest(day, settings, known_at, sequences)
    if RECOMMENDATIONS.name in tables:
        from pipeline.steps.recommendations import draft_recommendations

        drafts[RECOMMENDATIONS] = draft_recommendations(day, settings, known_at, sequences)
    return drafts


def draft_events(day: Day, settings: Settings) -> pl.DataFrame:
    """The rows that publishing the day would write, whatever its quality. Raises what refuses the day's files."""
    delivery = read_delivery([day], settings)
    if day.key in delivery.refused:
        raise delivery.refused[day.key]
    checked = check_rows(delivery.rows, RowRules.of(settings.logs))
    return deduplicate(checked.accepted).kept.select(BEHAVIOR_EVENTS.names)


def _standing(lake: Lake, table: Table, day: Day) -> pl.DataFrame:
    return lake.current(table, day, day).collect() if table.keeps_versions else lake.read(table, day)


def _kept(lake: Lake, table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """Without the rows of erased users, which no write lets in."""
    return rows if lake.erasures is None else rows.filter(~lake.erasures.erased_rows(table, rows))
