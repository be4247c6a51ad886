"""
Collects the facts of a home and writes them as one page that people read.

Reads the lake, the ledger and the evaluations that training left; writes `<home>/reports/report.html` in one move.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict

from pipeline.contracts import (
    BEHAVIOR_EVENTS,
    INTEREST_WINDOWS,
    ITEMS,
    LONG_TERM_INTEREST,
    LOOKUP_PARITY,
    ONLINE_PARITY,
    QUARANTINED_EVENTS,
    RECOMMENDATIONS,
    SEQUENCE_FEATURES,
    TABLES,
    Table,
)
from pipeline.errors import UnreadableFile
from pipeline.partitions import Day
from pipeline.report.evaluations import model_report
from pipeline.report.facts import DayQuality, ModelReport, Report, ServedParity, TableFreshness
from pipeline.report.migration import Mix, Mover, most_moved, population_mix
from pipeline.report.page import render
from pipeline.report.summary import age_state
from pipeline.settings import Settings
from pipeline.stores.ledger import Ledger, PartitionRecord, Promotion
from pipeline.stores.model_versions import MODELS
from pipeline.stores.tables import Lake

MOVERS = 8
RECENT_DAYS = 28
"""An interest of now is a user's newest row of the last four weeks; the one before is older than that."""
EARLIEST_DAYS = 365
FRESH_TABLES = (BEHAVIOR_EVENTS, SEQUENCE_FEATURES, INTEREST_WINDOWS, LONG_TERM_INTEREST, RECOMMENDATIONS)


class WrittenReport(BaseModel):
    """Where the page is and what is on it."""

    model_config = ConfigDict(frozen=True)

    path: str
    bytes: int
    days: int
    events: int
    models: int
    movers: int


def write_report(settings: Settings, known_at: datetime, out: Path | None = None) -> WrittenReport:
    """Write the report; the same data and `known_at` give the same bytes, and a crash leaves the old page.

    Raises:
        UnreadableFile: an evaluation is not the JSON that training writes.
    """
    report = collect_facts(settings, known_at)
    path = out or settings.place("reports/report.html")
    page = render(report).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(page)
    temporary.replace(path)
    return WrittenReport(
        path=str(path),
        bytes=len(page),
        days=len(report.days),
        events=sum(day.published for day in report.days),
        models=len(report.models),
        movers=len(report.movers),
    )


def collect_facts(settings: Settings, known_at: datetime) -> Report:
    """Every fact that the page shows; what does not exist yet is absent, not an error."""
    lake = Lake.of(settings)
    ledger = Ledger(settings.ledger_url)
    is_begun = ledger.revisions()[0] is not None
    days = [quality_of(record) for record in ledger.partitions(BEHAVIOR_EVENTS.name)] if is_begun else []
    promotions = ledger.promotions() if is_begun else []
    mix = _mix(lake, settings)
    return Report(
        known_at=known_at,
        days=days,
        reasons=dict(lake.scan(QUARANTINED_EVENTS).group_by("reason").len().sort("reason").collect().iter_rows()),
        mix=mix,
        movers=_movers(lake, mix),
        models=list(_models(settings, promotions)),
        freshness=_freshness(lake, known_at),
        parity=list(_parity(lake)),
        lineage=list(_lineage(lake, promotions)),
    )


def quality_of(record: PartitionRecord) -> DayQuality:
    """A day of the log as the page shows it, from its line in the ledger."""
    counts = record.counts
    published = counts.get("published", 0)
    quarantined, duplicates, erased, late = (
        counts.get(name, 0) for name in ("quarantined", "duplicates", "erased", "late")
    )
    found = [*record.details.get("failures", ()), *record.details.get("warnings", ())]
    return DayQuality(
        day=Day.parse(record.partition),
        state=record.state,
        rows_in=counts.get("read", published + quarantined + duplicates + erased + late),
        published=published,
        quarantined=quarantined,
        duplicates=duplicates,
        warnings=tuple(str(warning) for warning in found),
        erased=erased,
        late=late,
    )


def _mix(lake: Lake, settings: Settings) -> Mix | None:
    """Events counted by week, item and type first, so that memory does not grow with the log."""
    week = pl.col("event_time").dt.convert_time_zone("UTC").dt.date().dt.truncate("1w").alias("period")
    counts = (
        lake.scan(BEHAVIOR_EVENTS).group_by(week, "item_id", "event_type").agg(pl.len().cast(pl.Int64).alias("rows"))
    )
    items = lake.scan(ITEMS).sort("item_id", "valid_from").select("item_id", "categories")
    ordered = counts.collect(engine="streaming").sort("period", "item_id", "event_type")
    return population_mix(ordered, items.collect(), settings.logs.event_weights)


def _movers(lake: Lake, mix: Mix | None) -> list[Mover]:
    days = lake.days(INTEREST_WINDOWS)
    if not days or mix is None:
        return []
    turn = days[-1].plus(-RECENT_DAYS)
    after = _newest_windows(lake, turn.plus(1), days[-1])
    before = _newest_windows(lake, turn.plus(-EARLIEST_DAYS), turn)
    return most_moved(before, after, mix.names, MOVERS)


def _newest_windows(lake: Lake, first: Day, last: Day) -> pl.DataFrame:
    """Each user's newest row in the range, in its newest version."""
    columns = ["user_id", "categories", "counts_30d", "num_events", "event_timestamp", "created"]
    rows = lake.scan(INTEREST_WINDOWS, first, last).select(columns)
    newest = rows.sort("user_id", "event_timestamp", "created").unique("user_id", keep="last", maintain_order=True)
    return newest.drop("created").collect()


def _models(settings: Settings, promotions: list[Promotion]) -> Iterator[ModelReport]:
    """Of each model the newest training that was evaluated or decided on."""
    evaluated = {path.parent.name: path for path in settings.place("models").glob("*@*/evaluation.json")}
    decided = {promotion.run_key: promotion for promotion in promotions}
    for model in MODELS:
        keys = sorted(key for key in {*evaluated, *decided} if key.startswith(f"{model}@"))
        if not keys:
            continue
        decision = decided.get(keys[-1])
        yield model_report(
            model,
            keys[-1],
            _read_evaluation(evaluated[keys[-1]]) if keys[-1] in evaluated else {},
            decision=decision.decision if decision else "",
            reasons=decision.reasons if decision else (),
            version=decision.to_version if decision else None,
            decided_at=decision.decided_at if decision else None,
        )


def _read_evaluation(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnreadableFile(
            f"The evaluation {path} cannot be read: {error}. Nothing was written; train that version again."
        ) from error
    if not isinstance(found, dict):
        raise UnreadableFile(f"The evaluation {path} is not a JSON object. Nothing was written; train it again.")
    return found


def _freshness(lake: Lake, known_at: datetime) -> list[TableFreshness]:
    log_days = lake.days(BEHAVIOR_EVENTS)
    if not log_days:
        return []
    found = []
    for table in FRESH_TABLES:
        days = lake.days(table)
        if not days:
            found.append(TableFreshness(table.name, None, table.freshness, "absent"))
            continue
        behind = (log_days[-1].date - days[-1].date).days
        hours = max((known_at - days[-1].end).total_seconds() / 3600, 0.0)
        state = age_state(hours, table.freshness, behind)
        found.append(TableFreshness(table.name, days[-1], table.freshness, state, hours, behind, len(days)))
    return found


def _parity(lake: Lake) -> Iterator[ServedParity]:
    """The newest day of the daily comparison, and of the replayed look-ups."""
    for table in (ONLINE_PARITY, LOOKUP_PARITY):
        for day in lake.days(table)[-1:]:
            for row in lake.read(table, day).iter_rows(named=True):
                yield ServedParity(
                    view=row["view"],
                    compared=f"look-ups of {row['service'] or 'named features'}" if "service" in row else "a sample",
                    day=day,
                    **{name: row[name] for name in ("sampled", "equal", "mismatched", "missing", "extra")},
                    columns=tuple(row["mismatched_columns"]),
                    edit_distance=row["largest_edit_distance"],
                    cosine=row["least_cosine"],
                )


def _lineage(lake: Lake, promotions: list[Promotion]) -> Iterator[tuple[str, str]]:
    for table in TABLES:
        if (version := lake.version(table)) is not None:
            yield f"table {table.name}", f"Delta version {version}, contract {table.version}"
    for table in (LONG_TERM_INTEREST, RECOMMENDATIONS):
        yield from _spaces(lake, table)
    for promotion in promotions:
        origin = f" after version {promotion.from_version}" if promotion.from_version is not None else ""
        yield (
            f"{promotion.model} version {promotion.to_version}",
            f"{promotion.run_key}, {promotion.decision.replace('_', ' ')}{origin} by {promotion.decided_by}",
        )


def _spaces(lake: Lake, table: Table) -> Iterator[tuple[str, str]]:
    """The spaces and model versions of a table's newest day."""
    days = lake.days(table)
    if days:
        columns = ["space_id", "model_version", "model_cutoff"]
        for space, version, cutoff in (
            lake.current(table, days[-1], days[-1]).select(columns).unique().sort(columns).collect().rows()
        ):
            yield f"{table.name} of {days[-1]}", f"space {space}, model version {version}, cutoff {cutoff.isoformat()}"
