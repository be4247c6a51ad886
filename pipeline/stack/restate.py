"""
Runs a range of days through Airflow: one backfill of the root Dag a week, and everything that follows from it.

Weeks are run one after another, so that a week is served by the models that the weeks before it made, as it
would have been day by day.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import EngineFailure, RunFailed
from pipeline.partitions import Day, Week, days_between
from pipeline.stack.airflow_api import AirflowApi

ROOT = "behavior_logs"
DAILY = (ROOT, "sequence_features", "long_term_interest", "recommendations")
WEEKLY = ("interest_evolution", "collaborative_filter")
ACTIVE = {"queued", "running"}
QUIET_POLLS = 4
LOG_LINES = 12


@dataclass(frozen=True)
class Work:
    """One run that is expected: a Dag and its partition."""

    dag_id: str
    partition: str


@dataclass
class Progress:
    """What is known about a range at one moment."""

    expected: list[Work]
    state: dict[Work, str] = field(default_factory=dict)

    @property
    def done(self) -> list[Work]:
        return [work for work in self.expected if self.state.get(work) == "success"]

    @property
    def failed(self) -> list[Work]:
        return [work for work in self.expected if self.state.get(work) == "failed"]

    @property
    def running(self) -> list[Work]:
        return [work for work in self.expected if self.state.get(work) == "running"]

    @property
    def left(self) -> int:
        return len(self.expected) - len(self.done) - len(self.failed)


def weeks_of(first: Day, last: Day) -> list[tuple[Day, Day]]:
    """The range cut at every Monday."""
    pieces: list[tuple[Day, Day]] = []
    for day in days_between(first, last):
        if pieces and Week.of(day) == Week.of(pieces[-1][0]):
            pieces[-1] = (pieces[-1][0], day)
        else:
            pieces.append((day, day))
    return pieces


def expected_work(first: Day, last: Day, trains: bool = True) -> list[Work]:
    """Every run that has to succeed; the weekly ones for whole weeks only, and where models are trained."""
    days = list(days_between(first, last))
    work = [Work(dag_id, day.key) for dag_id in DAILY for day in days]
    if not trains:
        return work
    whole = [Week.of(a) for a, b in weeks_of(first, last) if (b.date - a.date).days == 6]
    return work + [Work(dag_id, week.key) for dag_id in WEEKLY for week in whole]


def restate(
    api: AirflowApi,
    first: Day,
    last: Day,
    again: bool = False,
    show: Callable[[Progress], None] = lambda progress: None,
    every: float = 2.0,
    backfill: str | None = None,
) -> Progress:
    """Run the range and wait. A partition that has succeeded is left alone unless `again`.

    Runs push what is new and train once a week, as scheduled runs do. With `backfill`, the id of a plan, they write
    tables only.

    Raises RunFailed with the Dag, the partition, the task and the end of its log, when a run has failed.
    """
    total = Progress(expected_work(first, last, trains=backfill is None))
    for start, end in weeks_of(first, last):
        _restate_week(api, start, end, again, total, show, every, backfill)
        if total.failed:
            raise _explain(api, total.failed)
    return total


def _restate_week(
    api: AirflowApi,
    first: Day,
    last: Day,
    again: bool,
    total: Progress,
    show: Callable,
    every: float,
    backfill: str | None,
) -> None:
    _wait_for_open_backfills(api, every)
    before = {run["dag_run_id"]: run for run in api.runs()}
    week = Progress(expected_work(first, last, trains=backfill is None))
    if again or not _all_done(before.values(), week):
        _take_up_failed(api, week, before.values())
        api.create_backfill(ROOT, first, last, again, {"backfill": backfill} if backfill else {})
    quiet = 0
    while quiet < QUIET_POLLS:
        runs = api.runs()
        week.state = _states(_concerned(runs, before, again), week.expected)
        total.state.update(week.state)
        show(total)
        if not week.left:
            return
        quiet = 0 if any(run["state"] in ACTIVE for run in runs) else quiet + 1
        time.sleep(every)
    if not week.failed:
        missing = [f"{w.dag_id} {w.partition}" for w in week.expected if w not in week.state]
        raise EngineFailure(
            f"Airflow has nothing more to do, but these runs never came: {', '.join(missing[:6])}. "
            "Run the same command again; look at the assets in Airflow if it repeats."
        )


def _wait_for_open_backfills(api: AirflowApi, every: float) -> None:
    """Airflow allows one backfill of a Dag at a time; an earlier one may still be open, even with nothing left."""
    deadline = time.monotonic() + 3600
    while api.open_backfills(ROOT):
        if time.monotonic() > deadline:
            raise EngineFailure(f"A backfill of {ROOT} has been open for an hour. Look at it in Airflow.")
        time.sleep(every)


def _all_done(runs: Any, week: Progress) -> bool:
    return all(_states(list(runs), week.expected).get(work) == "success" for work in week.expected)


def _take_up_failed(api: AirflowApi, week: Progress, runs: Any) -> None:
    """Runs below the root that failed earlier are tried again; the backfill itself sees to the root's."""
    for run in _latest(list(runs)).values():
        work = Work(run["dag_id"], run["partition_key"])
        if run["state"] == "failed" and run["dag_id"] != ROOT and work in week.expected:
            api.run_again(run["dag_id"], run["dag_run_id"])


def _concerned(runs: list[dict], before: dict[str, dict], again: bool) -> list[dict]:
    """With `again`, a run counts when it is new, or was taken up once more."""
    if not again:
        return runs
    weekly = [run for run in runs if run["dag_id"] in WEEKLY]
    fresh = [
        run
        for run in runs
        if run["dag_id"] in DAILY
        and (run["dag_run_id"] not in before or run["queued_at"] != before[run["dag_run_id"]]["queued_at"])
    ]
    return weekly + fresh


def _latest(runs: list[dict]) -> dict[tuple[str, str], dict]:
    """The newest run of each Dag and partition; `runs` come oldest first."""
    return {(run["dag_id"], run["partition_key"]): run for run in runs if run.get("partition_key")}


def _states(runs: list[dict], expected: list[Work]) -> dict[Work, str]:
    latest = _latest(runs)
    found = {work: latest.get((work.dag_id, work.partition)) for work in expected}
    return {work: run["state"] for work, run in found.items() if run}


def _explain(api: AirflowApi, failed: list[Work]) -> RunFailed:
    """Which Dag, partition and task failed, and the end of its log."""
    first = failed[0]
    run = _latest(api.runs(first.dag_id))[(first.dag_id, first.partition)]
    others = f" ({len(failed) - 1} more runs failed)" if len(failed) > 1 else ""
    for task in api.tasks(first.dag_id, run["dag_run_id"]):
        if task["state"] == "failed":
            return RunFailed(
                f"{first.dag_id} {first.partition}: task `{task['task_id']}` failed in try "
                f"{task['try_number']}{others}. What succeeded is kept; run the same command again after a fix.",
                [line for line in api.log_of(task) if line][-LOG_LINES:],
            )
    return RunFailed(f"{first.dag_id} {first.partition} failed{others}, but no task of it. Look at it in Airflow.", [])
