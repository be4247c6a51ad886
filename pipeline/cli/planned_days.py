"""Lets Airflow write the days of a planned backfill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.backfill.plan import Plan
    from pipeline.settings import Settings
    from pipeline.stack.restate import Progress
    from pipeline.steps.backfill import Done, Execute
    from pipeline.stores.backfills import BackfillRecord


def planned_through_airflow(settings: Settings) -> Execute:
    """Who writes the days: Airflow, by its own backfill; days without landed files are written here.

    A day is done when every daily Dag has run for it, so that a backfill that stops goes on with the others.
    """
    from pipeline.cli.backfill import through_airflow
    from pipeline.partitions import Day, utc_now
    from pipeline.stack.restate import DAILY, Work
    from pipeline.stack.timings import Timings
    from pipeline.steps.backfill import here
    from pipeline.steps.behavior_logs import landing_days

    def execute(days: Sequence[str], record: BackfillRecord, plan: Plan, done: Done) -> None:
        landed = {day.key for day in landing_days(settings)}
        here(settings, utc_now())([day for day in days if day not in landed], record, plan, done)

        def note(progress: Progress) -> None:
            for day in days:
                if all(progress.state.get(Work(dag_id, day)) == "success" for dag_id in DAILY):
                    done(day, {})

        for piece in unbroken([day for day in days if day in landed]):
            first, last = Day.parse(piece[0]), Day.parse(piece[-1])
            with Timings(settings) as timings:
                through_airflow(settings, first, last, True, timings, record.plan_id, note)
            for day in piece:
                done(day, {})

    return execute


def unbroken(days: Sequence[str]) -> list[list[str]]:
    """Runs of days that follow each other."""
    from pipeline.partitions import Day

    pieces: list[list[str]] = []
    for day in days:
        if pieces and Day.parse(pieces[-1][-1]).plus(1).key == day:
            pieces[-1].append(day)
        else:
            pieces.append([day])
    return pieces
