"""A plan of a backfill and what became of it, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.cli.edge import console, escaped

if TYPE_CHECKING:
    from pipeline.backfill.plan import Plan
    from pipeline.steps.backfill import Backfilled
    from pipeline.steps.backtests import Backtested

DAYS_SHOWN = 4


def show_plan(plan: Plan) -> None:
    """What would be written, and why: a line for every table and reason, not for every day."""
    if not plan.partitions:
        console.print(f"{plan.first} to {plan.last}: nothing to do")
    else:
        console.print(f"plan {plan.plan_id}: {plan.first} to {plan.last}, {len(plan.partitions):,} partitions")
    groups: dict[tuple[str, str], list[str]] = {}
    for partition in plan.partitions:
        for reason in partition.reasons:
            groups.setdefault((partition.table, reason), []).append(partition.day)
    for (table, reason), days in groups.items():
        console.print(f"  {table}: {len(days):,} days, {escaped(reason)}: {_days(days)}")
    if plan.cannot_be_made:
        console.print(f"  no logs have landed for {len(plan.cannot_be_made):,} days: {_days(plan.cannot_be_made)}")
    if plan.partitions:
        rows = "unknown" if plan.expected_rows is None else f"{plan.expected_rows:,}"
        seconds = "unknown, no backfill has written such partitions yet"
        if plan.expected_seconds is not None:
            seconds = f"{plan.expected_seconds:,.0f} s of work"
        console.print(f"  rows expected: {rows}; time expected: {seconds}")
        if plan.later_days:
            console.print(
                f"  of {plan.later_days:,} days after it, the rows of users who change are restated with them"
            )
    console.print(f"  models that would be retrained: {', '.join(plan.models_retrained) or 'none'}")
    console.print(f"  online keys that could go backward: {plan.online_keys_backward}, for {plan.online_why}")


def _days(days: list[str] | tuple[str, ...]) -> str:
    shown = ", ".join(days[:DAYS_SHOWN])
    return f"{shown}, ... {days[-1]}" if len(days) > DAYS_SHOWN else shown


def show_backfilled(done: Backfilled) -> None:
    """What became of it: the first partition, the days, and what is served."""
    if done.state != "done":
        console.print("nothing was done")
        return
    for difference in done.canary:
        console.print(
            f"first partition {difference.day}, {difference.table}: {difference.standing:,} rows stand, "
            f"{difference.added:,} added, {difference.removed:,} removed, {difference.changed:,} changed"
        )
    again = ", taken up where an earlier run had stopped" if done.resumed else ""
    console.print(f"{len(done.days):,} days written{again}; nothing was pushed online")
    for view in done.parity:
        console.print(f"  served {escaped(view)}")
    console.print("To serve what is newest: interest online publish")


def show_backtested(done: Backtested) -> None:
    """The versions that were trained to look back."""
    for version in done.trained:
        there = " was there before" if version.was_registered else ""
        console.print(f"backtest {version.model} version {version.version}{there}, as of {done.as_of}: it never serves")
    for reason in done.left_out:
        console.print(f"  left out {escaped(reason)}")
