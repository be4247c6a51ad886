"""
From landing files to published days: read, check every row, quarantine, drop repetitions, judge the day, publish.

One day and a whole history pass through the same lines; a history is read, judged and written once. A day that
fails is not touched: its partition, its quarantine and its version stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from pipeline.contracts import BEHAVIOR_EVENTS, ITEMS, PARTITION_COLUMN, QUARANTINED_EVENTS
from pipeline.errors import ContractViolation, InterestError, NotFound
from pipeline.events.contract_checks import RowRules, check_rows, deduplicate
from pipeline.events.counts import daily_counts
from pipeline.events.expectations import Finding, QualityGate
from pipeline.events.measures import crowded_days, daily_measures, daily_profile
from pipeline.events.quarantine import quarantined_rows, reasons_by_day
from pipeline.faults import reach
from pipeline.observability import get_logger
from pipeline.partitions import Day, days_between, run_key_of
from pipeline.settings import Settings
from pipeline.steps.late_events import take_late
from pipeline.steps.ledger_news import catch_up
from pipeline.steps.log_delivery import Delivery, delivery_from_tables, read_delivery
from pipeline.steps.log_loading import LoadedLogs, load_logs
from pipeline.steps.provenance import traced
from pipeline.steps.published import COUNTED, PublishedEvents, PublishedHistory, notes_of, record_days
from pipeline.stores.landing import Landing
from pipeline.stores.ledger import Ledger
from pipeline.stores.tables import Lake

__all__ = [
    "LoadedLogs",
    "PublishedEvents",
    "PublishedHistory",
    "landing_days",
    "load_logs",
    "publish_events",
    "publish_history",
    "replay_quarantine",
]

log = get_logger(__name__)


def landing_days(settings: Settings) -> list[Day]:
    """The days that have been delivered, also those without an event."""
    return Landing.of(settings).days()


def publish_events(day: Day, settings: Settings, known_at: datetime) -> PublishedEvents:
    """Replace one day of `behavior_events`. Twice is the same as once; a crash or a failure leaves the old day.

    Raises:
        LogsMissing: the collector has not delivered the day. Worth a retry.
        UnreadableFile: a file cannot be read and `logs.unreadable_file` is `fail`.
        ContractViolation: columns do not fit, or a measure of the day is beyond its limit in `quality`.
        EngineFailure: a tool broke; the data is not at fault. Worth a retry.
    """
    delivery = read_delivery([day], settings)
    return _only(day, *_publish([day], delivery, settings, known_at, run_key_of("behavior_logs", day.start)))


def publish_history(first: Day, last: Day, settings: Settings, known_at: datetime) -> PublishedHistory:
    """Replace a range of days in one pass; the same rows and decisions as day by day in order.

    A day that fails, or was not delivered, is left as it is and named in `failed`. Raises EngineFailure.
    """
    days = list(days_between(first, last))
    run_key = f"{run_key_of('behavior_logs', first.start)}..{last.key}"
    published, failed = _publish(days, read_delivery(days, settings), settings, known_at, run_key)
    return PublishedHistory(
        first=first.key, last=last.key, days=tuple(published), failed={key: str(why) for key, why in failed.items()}
    )


def replay_quarantine(day: Day, settings: Settings, known_at: datetime) -> PublishedEvents:
    """Judge a day's refused rows again, after a setting or the contract was corrected; safe to repeat.

    The landing files are read again where they are still there; otherwise the rows kept in quarantine are.
    Raises NotFound when nothing is quarantined, else as `publish_events`.
    """
    lake = Lake.of(settings)
    if lake.read(QUARANTINED_EVENTS, day).is_empty():
        raise NotFound(f"{QUARANTINED_EVENTS.name} {day}: nothing is quarantined, so there is nothing to replay.")
    if Landing.of(settings).files(day):
        return publish_events(day, settings, known_at)
    delivery = delivery_from_tables(day, lake)
    return _only(day, *_publish([day], delivery, settings, known_at, run_key_of("behavior_logs", day.start)))


Refused = dict[str, InterestError]


def _only(day: Day, published: list[PublishedEvents], failed: Refused) -> PublishedEvents:
    if day.key in failed:
        raise failed[day.key]
    outcome = published[0]
    log.info("published", partition=outcome.day, **outcome.model_dump(include=set(COUNTED)), version=outcome.version)
    return outcome


def _publish(
    days: Sequence[Day], delivery: Delivery, settings: Settings, known_at: datetime, run_key: str
) -> tuple[list[PublishedEvents], Refused]:
    """The days that passed, as written, and why the others did not."""
    lake = Lake.of(settings)
    catch_up(lake, Ledger(settings.ledger_url), BEHAVIOR_EVENTS, QUARANTINED_EVENTS)
    failed: Refused = dict(delivery.refused)
    present = [day for day in days if day.key not in failed]
    outcomes: list[PublishedEvents] = []
    if present:
        rules = RowRules.of(settings.logs)
        checked = check_rows(delivery.rows, rules)
        reach("publish.validate")
        unique = deduplicate(checked.accepted)
        items = lake.scan(ITEMS).collect()
        counts = daily_counts(present, delivery.rows, checked.refused, unique, items, delivery.expected_empty)
        profile = pl.concat([_profile_before(present[0], lake, items, settings), daily_profile(unique.kept, items)])
        gate = QualityGate(settings.quality, rules, settings.place("data_docs"))
        kept_results = [gate.check_rows(unique.kept)]
        verdict, result = _judge(gate, present, counts, profile, settings)
        gate.keep([*kept_results, result], run_key, days[-1].as_of)
        reasons = reasons_by_day(checked.refused)
        crowded = crowded_days(unique.kept, settings.quality.most_events_of_a_user)
        for count in counts.iter_rows(named=True):
            key = count[PARTITION_COLUMN]
            if key in verdict.failures:
                failed[key] = _violation(key, count, verdict.failures[key], reasons.get(key, {}), lake, settings)
            else:
                warnings = [*delivery.notes.get(key, []), *map(str, verdict.warnings.get(key, []))]
                warnings += crowded.get(key, [])
                outcomes.append(
                    _outcome(
                        key, count, reasons.get(key, {}), warnings, delivery.skipped.get(key, 0),
                        delivery.erased.get(key, 0),
                    )
                )
        outcomes = traced(outcomes, unique.kept, delivery.landed, settings)
        outcomes = _write(outcomes, checked.refused, unique.kept, lake, settings, known_at)
    record_days(outcomes, failed, lake, settings, known_at, delivery.landed)
    take_late([outcome.day for outcome in outcomes], lake, Ledger(settings.ledger_url), known_at)
    return outcomes, failed


def _judge(gate: QualityGate, days: Sequence[Day], counts: pl.DataFrame, profile: pl.DataFrame, settings: Settings):
    """The suite's verdict. A day that fails is no history for the days after it, so these are judged again without.

    The decision on the first n days is final after n rounds; usually one round is enough.
    """
    held: set[str] = set()
    while True:
        measures = daily_measures(days, counts, profile, held, settings.quality)
        verdict, result = gate.judge_days(measures)
        if set(verdict.failures) == held:
            return verdict, result
        held = set(verdict.failures)


def _outcome(
    key: str, count: dict, reasons: dict[str, int], warnings: list[str], skipped: int, erased: int
) -> PublishedEvents:
    outcome = PublishedEvents(
        day=key,
        state="published" if count["published"] else "empty",
        read=count["read"] + erased,
        quarantined=count["refused"] + count["excluded"],
        erased=erased,
        unreadable_files=skipped,
        reasons=reasons,
        warnings=tuple(warnings),
        version=None,
        changed=False,
        **{name: count[name] for name in ("published", "duplicates", "conflicts", "unknown_items")},
    )
    outcome.must_balance()
    return outcome


def _profile_before(day: Day, lake: Lake, items: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    since = day.plus(-settings.quality.history_days)
    columns = ["event_time", "item_id", "value"]
    before = lake.scan(BEHAVIOR_EVENTS, since, day.plus(-1)).select(columns).collect()
    keyed = before.with_columns(pl.col("event_time").dt.date().cast(pl.String).alias(PARTITION_COLUMN))
    return daily_profile(keyed, items)


def _violation(
    key: str, count: dict, failures: list[Finding], reasons: dict[str, int], lake: Lake, settings: Settings
) -> ContractViolation:
    version = lake.version(BEHAVIOR_EVENTS)
    standing = f"the table still is at version {version}" if version is not None else "the table does not exist yet"
    refused = ", ".join(f"{reason} ({rows:,})" for reason, rows in list(reasons.items())[:3])
    return ContractViolation(
        f"{BEHAVIOR_EVENTS.name} {key}: {'; '.join(str(failure) for failure in failures)}. "
        f"{count['read']:,} rows in, {count['refused'] + count['excluded']:,} refused. Nothing was published; "
        f"{standing}. " + (f"Most frequent reasons: {refused}. " if refused else "")
        + f"See {settings.place('data_docs/pages/index.html')}. Limits are settings under `quality`."
    )


def _write(
    outcomes: list[PublishedEvents],
    refused: pl.DataFrame,
    kept: pl.DataFrame,
    lake: Lake,
    settings: Settings,
    known_at: datetime,
) -> list[PublishedEvents]:
    """Commit the days that passed: one commit for quarantine and one for events, for each unbroken run of days."""
    written = []
    for run in _unbroken(outcomes):
        first, last = Day.parse(run[0].day), Day.parse(run[-1].day)
        within = pl.col(PARTITION_COLUMN).is_between(pl.lit(first.key), pl.lit(last.key))
        refusals = quarantined_rows(refused.filter(within), known_at)
        events_note, quarantine_note = notes_of(run, settings, known_at)
        quarantine = lake.replace_range(QUARANTINED_EVENTS, first, last, refusals, quarantine_note)
        committed = lake.replace_range(BEHAVIOR_EVENTS, first, last, kept.filter(within), events_note)
        state = {
            "version": committed.version,
            "quarantine_version": quarantine.version,
            "changed": committed.changed or quarantine.changed,
        }
        written += [outcome.model_copy(update=state) for outcome in run]
    return written


def _unbroken(outcomes: Sequence[PublishedEvents]) -> list[list[PublishedEvents]]:
    runs: list[list[PublishedEvents]] = []
    for outcome in outcomes:
        if runs and Day.parse(runs[-1][-1].day).plus(1).key == outcome.day:
            runs[-1].append(outcome)
        else:
            runs.append([outcome])
    return runs
