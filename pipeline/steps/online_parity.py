"""
Compares a sample of what is served with the newest rows of the tables, value by value, and keeps the result.

The sample of a day is chosen by the hash of day and key, among everything that is in the table or served: it is the
same however often the day is compared, and another one on the next day.
"""

from __future__ import annotations

import dataclasses
import hashlib
import heapq
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict

from pipeline.contracts import ONLINE_PARITY, TABLES, Table
from pipeline.errors import ContractViolation, NotFound
from pipeline.observability import get_logger
from pipeline.partitions import Day, run_key_of
from pipeline.serving.parity import ViewParity, compare
from pipeline.settings import Settings
from pipeline.steps.ledger_news import catch_up
from pipeline.stores.ledger import Ledger, PartitionRecord, note_of
from pipeline.stores.tables import Lake, newest_versions

log = get_logger(__name__)

COUNTS = ("sampled", "equal", "mismatched", "missing", "extra")


class CheckedParity(BaseModel):
    """What a comparison found."""

    model_config = ConfigDict(frozen=True)

    day: str
    views: tuple[ViewParity, ...]
    failures: tuple[str, ...]
    """The views that differ more than `parity.max_differing` allows, in words."""
    changed: bool
    """Whether this call wrote the result, or it stood there already."""
    seconds: float


def check_parity(day: Day, settings: Settings, known_at: datetime) -> CheckedParity:
    """Compare and record; twice on the same state is the same as once.

    Raises:
        ContractViolation: a view differs more than it may. The result is recorded; what is served stays as it is.
        NotFound: the feature definitions were not applied.
        EngineFailure: the online store did not answer. Worth a retry.
    """
    checked = measure_parity(day, settings, known_at)
    if checked.failures:
        raise ContractViolation(
            f"The online store differs from the tables: {'; '.join(checked.failures)}. The result is in "
            f"{ONLINE_PARITY.name} {day}. What is missing or old is repaired by `interest online rebuild`; "
            "`interest online parity --json` names the entities."
        )
    return checked


def measure_parity(day: Day, settings: Settings, known_at: datetime) -> CheckedParity:
    """As `check_parity`, but a difference is an answer, not an error."""
    # Imported here: Feast takes seconds to load.
    from pipeline.stores.feature_store import keys_of_views

    began = time.perf_counter()
    lake = Lake.of(settings)
    if not keys_of_views(settings):
        raise NotFound("No feature view is applied, so nothing is served. Run `interest doctor --repair`.")
    views = compare_online(day, settings)
    allowed = settings.parity.max_differing
    failures = tuple(in_words(view) for view in views if view.differing_share > allowed)
    warnings = tuple(in_words(view) for view in views if 0 < view.differing_share <= allowed)
    ledger = Ledger(settings.ledger_url)
    changed = record_parity(ONLINE_PARITY, lake, ledger, day, views, [{}] * len(views), failures, warnings, known_at)
    seconds = time.perf_counter() - began
    checked = CheckedParity(day=day.key, views=tuple(views), failures=failures, changed=changed, seconds=seconds)
    totals = {name: sum(getattr(view, name) for view in views) for name in COUNTS}
    log.info("online compared", partition=day.key, **totals, seconds=round(seconds, 1))
    return checked


def is_applied(settings: Settings) -> bool:
    """Whether there is a registry of definitions to look into. Feast makes an empty one where it finds none."""
    place = settings.feast_registry_url
    return "://" in place or Path(place).is_file()


def compare_online(day: Day, settings: Settings) -> list[ViewParity]:
    """Compare a day's sample of every applied view, and record nothing. Raises EngineFailure."""
    from pipeline.stores.feature_store import keys_of_views

    if not is_applied(settings):
        return []
    lake, tables = Lake.of(settings), {table.name: table for table in TABLES}
    return [_parity_of(lake, tables[view], key, day, settings) for view, key in keys_of_views(settings).items()]


def _parity_of(lake: Lake, table: Table, key: str, day: Day, settings: Settings) -> ViewParity:
    """One view. What differs is looked at again: a row may have been published between the two reads."""
    from pipeline.stores.served_rows import served_keys, served_rows

    newest = lake.scan(table).group_by(key).agg(pl.col("event_timestamp").max()).collect()
    known = {*newest[key], *served_keys(settings, table.name)}
    sample = _sample(known, day, settings.parity.sample)
    moments = newest.filter(pl.col(key).is_in(sample))
    first = compare(table, key, _newest_rows(lake, table, key, moments), served_rows(settings, table, sample))
    if not first.differing:
        return first
    moments = lake.scan(table).filter(pl.col(key).is_in(first.differing)).group_by(key)
    moments = moments.agg(pl.col("event_timestamp").max()).collect()
    again = compare(
        table,
        key,
        _newest_rows(lake, table, key, moments),
        served_rows(settings, table, first.differing),
    )
    return looked_at_again(first, again)


def looked_at_again(first: ViewParity, again: ViewParity) -> ViewParity:
    """A comparison, with a second one of all that differed in its place."""
    return dataclasses.replace(again, sampled=first.equal + again.sampled, equal=first.equal + again.equal)


def _newest_rows(lake: Lake, table: Table, key: str, moments: pl.DataFrame) -> pl.DataFrame:
    """The newest version of the row at each entity's moment; whole rows are read only where one lies."""
    if moments.is_empty():
        return table.empty()
    first = last = None
    if table.daily:
        first, last = Day.of(moments["event_timestamp"].min()), Day.of(moments["event_timestamp"].max())
    rows = lake.scan(table, first, last).join(moments.lazy(), on=[key, "event_timestamp"], how="semi").collect()
    if table.keeps_versions:
        return newest_versions(table, rows.lazy()).collect()
    return rows.sort(key, "created").unique(key, keep="last", maintain_order=True)


def _sample(keys: Iterable[str], day: Day, size: int) -> list[str]:
    return heapq.nsmallest(size, keys, lambda key: hashlib.blake2b(f"{day.key}:{key}".encode(), digest_size=8).digest())


def in_words(view: ViewParity) -> str:
    """What differs in a view."""
    kinds = ", ".join(f"{n} {kind}" for kind in COUNTS[2:] if (n := getattr(view, kind)))
    where = f" (in {', '.join(view.mismatched_columns)})" if view.mismatched_columns else ""
    return f"{view.view}: {kinds} of {view.sampled}{where}"


def record_parity(
    table: Table,
    lake: Lake,
    ledger: Ledger,
    day: Day,
    views: Sequence[ViewParity],
    facts: Sequence[Mapping[str, object]],
    failures: tuple[str, ...],
    warnings: tuple[str, ...],
    known_at: datetime,
) -> bool:
    """Write the results of a day, each with `facts` of its own, and their line in the ledger. Whether that was new."""
    clocks = {"event_timestamp": day.as_of, "created": known_at}
    told = [{**clocks, **own} for own in facts]
    rows = [{n: getattr(v, n, own.get(n)) for n in table.names} for v, own in zip(views, told, strict=True)]
    rows = [row | {"mismatched_columns": list(row["mismatched_columns"])} for row in rows]
    counts = {name: sum(getattr(view, name) for view in views) for name in COUNTS}
    record = PartitionRecord(
        table_name=table.name,
        partition=day.key,
        state="failed" if failures else "published",
        counts={"rows": len(rows), **counts},
        details={"failures": list(failures), "warnings": list(warnings)},
        run_key=run_key_of(table.name, day.start),
        written_at=known_at,
    )
    catch_up(lake, ledger, table)
    committed = lake.replace(table, day, pl.DataFrame(rows, table.schema), note_of([record]))
    standing = ledger.partition(table.name, day.key)
    if committed.changed or standing is None or (standing.state, standing.details) != (record.state, record.details):
        ledger.record_partition(record.model_copy(update={"version": committed.version}))
    return committed.changed
