"""
Runs a planned backfill: one partition first, tried without writing and compared with what stands; then that partition;
then the rest; then a comparison of what is served with the tables.

It writes tables only. Nothing is pushed online and nothing is trained. The ledger keeps which days are done, so that
after a crash the same call goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from time import perf_counter

from pydantic import BaseModel, ConfigDict

from pipeline.backfill.compare import Difference
from pipeline.backfill.plan import Plan
from pipeline.contracts import (
    BEHAVIOR_EVENTS,
    INTEREST_WINDOWS,
    LONG_TERM_INTEREST,
    RECOMMENDATIONS,
    SEQUENCE_FEATURES,
)
from pipeline.errors import BeyondTolerance
from pipeline.faults import reach
from pipeline.observability import get_logger
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.steps.canary import try_day
from pipeline.stores.backfills import BackfillRecord, Backfills
from pipeline.stores.ledger import Ledger
from pipeline.stores.locks import alone

log = get_logger(__name__)

Done = Callable[[str, dict[str, float]], None]
"""Told of each day that is done, with the seconds that each table took, where these are known."""
Execute = Callable[[Sequence[str], BackfillRecord, Plan, Done], None]
"""Writes these days of a backfill, whose record and plan it is given, and tells of each one."""


class Backfilled(BaseModel):
    """What became of a backfill."""

    model_config = ConfigDict(frozen=True)

    plan_id: str
    state: str
    """`done`, or `nothing to do`."""
    days: tuple[str, ...] = ()
    resumed: bool = False
    """Whether an earlier call had begun it."""
    canary: tuple[Difference, ...] = ()
    parity: tuple[str, ...] = ()
    """By view, what is served and differs from the tables; `interest online publish` repairs it."""


def run_backfill(
    plan: Plan, settings: Settings, known_at: datetime, execute: Execute | None = None, accept: bool = False
) -> Backfilled:
    """Execute a plan. A second call finds nothing to do; after a crash it goes on at the day where it stopped.

    Args:
        execute: who writes the days; this process, one after another, by default.
        accept: whether the first partition may differ from what stands by more than the tolerance.

    Raises:
        BeyondTolerance: the first partition would differ too much; nothing was written.
        Whatever a step raises; the days before it are done and stay so.
    """
    with alone(settings, "backfill"):
        backfills = Backfills(Ledger(settings.ledger_url))
        record = _unfinished(backfills, plan)
        resumed = record is not None
        if record is None and not plan.partitions:
            return Backfilled(plan_id=plan.plan_id, state="nothing to do")
        differences: list[Difference] = []
        if record is None:
            canary = _canary_of(plan)
            differences = try_day(Day.parse(canary), plan.of_day(canary), settings, known_at)
            _must_be_alike(differences, settings, accept)
            record = backfills.write(_record_of(plan, canary, differences, accept, known_at))
        keeper = _Keeper(backfills, record)
        for days in _in_order(record):
            (execute or here(settings, known_at))(days, keeper.record, plan, keeper.done)
        keeper.finish(known_at)
    parity = tuple(_parity(settings, known_at))
    done = Backfilled(
        plan_id=record.plan_id,
        state="done",
        days=tuple(record.left),
        resumed=resumed,
        canary=tuple(differences),
        parity=parity,
    )
    log.info("backfilled", **done.model_dump(exclude={"canary"}))
    return done


def here(settings: Settings, known_at: datetime) -> Execute:
    """Writes days in this process, one after another, and of each only the tables that are planned."""

    def execute(days: Sequence[str], record: BackfillRecord, plan: Plan, done: Done) -> None:
        for key in days:
            seconds = _write(Day.parse(key), plan.of_day(key), settings, known_at)
            reach("backfill.after_partition")
            done(key, seconds)

    return execute


def _write(day: Day, tables: Sequence[str], settings: Settings, known_at: datetime) -> dict[str, float]:
    from pipeline.steps.behavior_logs import publish_events
    from pipeline.steps.sequence_features import build_features

    seconds: dict[str, float] = {}

    def timed(names: tuple[str, ...], step: Callable[[], object]) -> None:
        began = perf_counter()
        if concerned := [name for name in names if name in tables]:
            step()
            seconds.update({name: (perf_counter() - began) / len(concerned) for name in concerned})

    def embed() -> None:
        from pipeline.steps.long_term_interest import embed_users

        embed_users(day, settings, known_at, push=False)

    def recommend() -> None:
        from pipeline.steps.recommendations import recommend_items

        recommend_items(day, settings, known_at, push=False)

    timed((BEHAVIOR_EVENTS.name,), lambda: publish_events(day, settings, known_at))
    timed((SEQUENCE_FEATURES.name, INTEREST_WINDOWS.name), lambda: build_features(day, settings, known_at, tables))
    timed((LONG_TERM_INTEREST.name,), embed)
    timed((RECOMMENDATIONS.name,), recommend)
    return seconds


class _Keeper:
    """The record of a backfill while it runs."""

    def __init__(self, backfills: Backfills, record: BackfillRecord):
        self.backfills, self.record = backfills, record

    def done(self, day: str, seconds: dict[str, float]) -> None:
        if day in self.record.done:
            return
        known = self.record.facts.get("seconds", {})
        facts = self.record.facts | {
            "seconds": known | {table: [*known.get(table, ()), spent] for table, spent in seconds.items()}
        }
        self._keep(done=[*self.record.done, day], facts=facts)

    def finish(self, known_at: datetime) -> None:
        self._keep(state="done", finished_at=known_at)

    def _keep(self, **changes: object) -> None:
        self.record = self.backfills.write(self.record.model_copy(update=changes))


def _unfinished(backfills: Backfills, plan: Plan) -> BackfillRecord | None:
    found = [r for r in backfills.all() if r.asks(plan.first, plan.last, plan.tables, plan.reason)]
    return next((record for record in found if record.state == "running"), None)


def _canary_of(plan: Plan) -> str:
    """The day of which most stands, the latest of equals: there is most to compare with. Else the first day."""
    rows: dict[str, int] = {}
    for partition in plan.partitions:
        if not partition.is_missing:
            rows[partition.day] = rows.get(partition.day, 0) + (partition.expected_rows or 0)
    return max(rows, key=lambda day: (rows[day], day)) if rows else plan.days[0]


def _must_be_alike(differences: Sequence[Difference], settings: Settings, accept: bool) -> None:
    found = [f"{d.table}: {what}" for d in differences for what in d.beyond(settings.backfill)]
    if found and not accept:
        raise BeyondTolerance(
            f"{differences[0].day} would differ from what stands by more than the tolerance. {'; '.join(found)}. "
            "Nothing was written. If that is what the change is for, run it again with --accept; "
            "the limits are settings under `backfill`."
        )


def _record_of(
    plan: Plan, canary: str, differences: Sequence[Difference], accept: bool, known_at: datetime
) -> BackfillRecord:
    return BackfillRecord(
        plan_id=plan.plan_id,
        first=plan.first,
        last=plan.last,
        tables=list(plan.tables),
        reason=plan.reason,
        state="running",
        days=list(plan.days),
        facts={
            "canary": canary,
            "differences": [d.model_dump(mode="json") for d in differences],
            "accepted": accept,
        },
        started_at=known_at,
    )


def _in_order(record: BackfillRecord) -> list[list[str]]:
    """The first partition by itself, then the rest in order."""
    canary = record.facts["canary"]
    rest = [day for day in record.left if day != canary]
    return [days for days in ([canary] if canary in record.left else [], rest) if days]


def _parity(settings: Settings, known_at: datetime) -> list[str]:
    from pipeline.steps.online_parity import compare_online, in_words

    views = compare_online(Day.of(known_at), settings)
    return [in_words(view) if view.differing else f"{view.view}: all {view.sampled} equal" for view in views]
