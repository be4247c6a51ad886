"""
What arrived for a day that had been published: which days it concerns, and the rows that came too late to be taken in.

Within the lookback (`logs.lookback_days`) such a day is published again. A day before it stays as it is, and the rows
wait in `late_events`; publishing that day on request takes them in. Either way every row that came in is somewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from pipeline.contracts import BEHAVIOR_EVENTS, LATE_EVENTS, PARTITION_COLUMN, QUARANTINED_EVENTS
from pipeline.errors import UnbalancedCounts
from pipeline.events.contract_checks import RowRules
from pipeline.events.lateness import late_rows
from pipeline.events.quarantine import quarantined_rows, reasons_by_day
from pipeline.observability import get_logger
from pipeline.partitions import Day, run_key_of
from pipeline.settings import Settings
from pipeline.steps.ledger_news import catch_up
from pipeline.steps.log_delivery import read_delivery
from pipeline.steps.provenance import LANDING
from pipeline.stores.landing import Landing
from pipeline.stores.ledger import Ledger, PartitionRecord, note_of
from pipeline.stores.tables import Lake

LOOKED_AT = "late_landing"
"""In the details of a day's line: the files that were searched for late rows."""

log = get_logger(__name__)


def changed_days(before: Day, settings: Settings) -> list[Day]:
    """The delivered days before a day whose files are not those that the ledger's line was made from, in order."""
    landing = Landing.of(settings)
    made_from = {
        line.partition: line.details.get("upstream", {}).get(LANDING)
        for line in Ledger(settings.ledger_url).partitions(BEHAVIOR_EVENTS.name)
    }
    return [d for d in landing.days() if d < before and landing.fingerprint(d) != made_from.get(d.key)]


def keep_late(day: Day, settings: Settings, known_at: datetime) -> int | None:
    """Bring the day's rows that came too late into `late_events`; how many there are. Twice is the same as once.

    None where there was nothing to do: these files were searched before, or the day was never published.
    Raises the error for which the day's files cannot be read, and UnbalancedCounts where a row would be nowhere.
    """
    ledger, lake = Ledger(settings.ledger_url), Lake.of(settings)
    line, files = ledger.partition(BEHAVIOR_EVENTS.name, day.key), Landing.of(settings).fingerprint(day)
    if line is None or line.state not in ("published", "empty") or line.details.get(LOOKED_AT) == files:
        return None
    delivery = read_delivery([day], settings)
    if day.key in delivery.refused:
        raise delivery.refused[day.key]
    published, quarantined = lake.read(BEHAVIOR_EVENTS, day), lake.read(QUARANTINED_EVENTS, day)
    late = late_rows(delivery.rows, RowRules.of(settings.logs), published, quarantined)
    reasons = reasons_by_day(late.rows).get(day.key, {})
    counts = line.counts | {"duplicates": late.duplicates, "erased": delivery.erased.get(day.key, 0)}
    counts["late"] = late.rows.height
    counts["read"] = delivery.rows.height + counts["erased"] + late.gone
    _must_balance(day, counts)
    _write(day, quarantined_rows(late.rows, known_at), reasons, lake, ledger, known_at)
    details = line.details | {LOOKED_AT: files}
    if (counts, details) != (line.counts, line.details):
        ledger.record_partition(line.model_copy(update={"counts": counts, "details": details, "written_at": known_at}))
    log.info("late events kept", partition=day.key, rows=late.rows.height, reasons=reasons)
    return late.rows.height


def _must_balance(day: Day, counts: dict[str, int]) -> None:
    """Raises UnbalancedCounts unless every row that ever came in is somewhere."""
    parts = {name: counts.get(name, 0) for name in ("published", "quarantined", "duplicates", "erased", "late")}
    if counts["read"] != sum(parts.values()):
        raise UnbalancedCounts(
            f"{BEHAVIOR_EVENTS.name} {day}: {counts['read']:,} rows in, but "
            f"{' + '.join(f'{rows:,} {name}' for name, rows in parts.items())}. Nothing was written; this is a fault "
            "of the platform, please report it."
        )


def take_late(days: Sequence[str], lake: Lake, ledger: Ledger, known_at: datetime) -> None:
    """Empty `late_events` of days that were just published from all their files. Safe to repeat."""
    waiting = {day.key for day in lake.days(LATE_EVENTS)} & set(days)
    for key in sorted(waiting):
        nothing = LATE_EVENTS.empty().with_columns(pl.lit(key).alias(PARTITION_COLUMN))
        _write(Day.parse(key), nothing, {}, lake, ledger, known_at)


def _write(
    day: Day, rows: pl.DataFrame, reasons: dict[str, int], lake: Lake, ledger: Ledger, known_at: datetime
) -> None:
    """Make these the late rows of a day; a row that stands keeps the time at which it was found."""
    place = ["source_file", "source_row", "raw"]
    found = lake.read(LATE_EVENTS, day).select(*place, pl.col("created").alias("found_at"))
    rows = rows.join(found, on=place, how="left", maintain_order="left")
    rows = rows.with_columns(pl.coalesce("found_at", "created").alias("created")).drop("found_at")
    catch_up(lake, ledger, LATE_EVENTS)
    standing = ledger.partition(LATE_EVENTS.name, day.key)
    if standing is None and rows.is_empty() and found.is_empty():
        return
    line = PartitionRecord(
        table_name=LATE_EVENTS.name,
        partition=day.key,
        state="published" if rows.height else "empty",
        counts={"rows": rows.height},
        details={"reasons": reasons},
        run_key=run_key_of("behavior_logs", day.start),
        written_at=known_at,
    )
    committed = lake.replace(LATE_EVENTS, day, rows, note_of([line]))
    if committed.changed or standing is None or (standing.state, standing.counts) != (line.state, line.counts):
        ledger.record_partition(line.model_copy(update={"version": committed.version}))
