"""What a reader must know before anything else, in a few sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.report.facts import DayQuality, Report


@dataclass(frozen=True)
class Claim:
    """One line of the summary; its tone is good, warn, bad or plain."""

    tone: str
    text: str


def totals(days: Sequence[DayQuality]) -> dict[str, int]:
    """The sums over all days, and how many days there are."""
    sums = {
        name: sum(getattr(day, name) for day in days)
        for name in ("rows_in", "published", "quarantined", "duplicates", "late")
    }
    return sums | {
        "days": len(days),
        "failed": sum(day.state == "failed" for day in days),
        "warned": sum(bool(day.warnings) and day.state != "failed" for day in days),
        "notable": sum(bool(day.warnings) or not day.balances for day in days),
    }


def claims(report: Report) -> list[Claim]:
    """What a reader must know before anything else, worst first in tone but always in this order."""
    found = totals(report.days)
    lines = []
    if not report.days:
        lines.append(Claim("warn", "No day has been published yet."))
    elif found["failed"]:
        failed = ", ".join(day.day.key for day in report.days if day.state == "failed")
        lines.append(Claim("bad", f"{found['failed']} of {found['days']} days failed and published nothing: {failed}."))
    else:
        empty = sum(day.state == "empty" for day in report.days)
        aside = f", {empty} of them without an event" if empty else ""
        lines.append(Claim("good", f"All {found['days']} days are published{aside}."))
    unbalanced = [day.day.key for day in report.days if not day.balances]
    if unbalanced:
        lines.append(Claim("bad", f"Rows are missing on {', '.join(unbalanced)}: rows in are not the sum of the rest."))
    elif report.days:
        summands = "published + quarantined + duplicates" + (" + late" if found["late"] else "")
        lines.append(Claim("good", f"Every row is accounted for: rows in = {summands}."))
    if found["late"]:
        days = ", ".join(f"{day.day.key} ({day.late:,})" for day in report.days if day.late)
        lines.append(Claim("warn", f"{found['late']:,} rows came too late and wait in late_events: {days}."))
    if found["warned"]:
        lines.append(Claim("warn", f"{found['warned']} of {found['days']} days passed with a warning."))
    for model in report.models:
        if model.decision:
            tone = "good" if model.decision == "promoted" else "warn"
            lines.append(Claim(tone, f"{model.model} version {model.version} was {model.decision.replace('_', ' ')}."))
    if not report.models:
        lines.append(Claim("plain", "No model has been evaluated yet."))
    return lines + _claims_of_freshness(report) + _claims_of_parity(report)


def _claims_of_freshness(report: Report) -> list[Claim]:
    lines = []
    for state, words in (("behind", "Behind the log"), ("absent", "Not built yet")):
        if late := [table.table for table in report.freshness if table.state == state]:
            lines.append(Claim("warn", f"{words}: {', '.join(late)}."))
    if report.freshness and not lines:
        lines.append(Claim("good", "Every table reaches the last day of the log."))
    if any(table.state == "level" for table in report.freshness):
        oldest = max(table.age_hours or 0.0 for table in report.freshness if table.state == "level")
        lines.append(Claim("plain", f"The log itself ended {age(oldest)} before this report."))
    return lines


def _claims_of_parity(report: Report) -> list[Claim]:
    if not report.parity:
        return []
    if differing := sorted({view.view for view in report.parity if view.equal < view.sampled}):
        return [Claim("warn", f"Served values differ from the tables: {', '.join(differing)}.")]
    return [Claim("good", f"All {sum(view.sampled for view in report.parity):,} compared rows are served as written.")]


def age_state(age_hours: float, promise: str, days_behind: int) -> str:
    """The state of a table that has rows; `promise` is hours or days, as in `26h` or `7d`."""
    promised = float(promise[:-1]) * {"h": 1, "d": 24}[promise[-1]]
    if days_behind > 0:
        return "behind"
    return "fresh" if age_hours <= promised else "level"


def moment(value: datetime | None) -> str:
    """A time for people, to the minute, in UTC."""
    return value.isoformat(sep=" ", timespec="minutes").replace("+00:00", " UTC") if value else "–"


def age(hours: float | None) -> str:
    """An age for people."""
    if hours is None:
        return "–"
    if hours < 48:
        return f"{hours:.0f} h"
    return f"{hours / 24:,.0f} days" if hours < 24 * 730 else f"{hours / 24 / 365.25:.0f} years"
