"""
The report: one HTML page that opens anywhere, years later, without a network.

Plain facts in (`Report`), text out. Everything that comes from data is escaped by the template, and characters that a
page could obey instead of show are replaced. The same facts give the same bytes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.report import plots
from pipeline.report.facts import DayQuality, ModelReport, Report, ScoreRow
from pipeline.report.migration import Mix
from pipeline.report.summary import age, claims, moment, totals

RECENT_DAYS = 7
"""Days of the quality table that are open; earlier ones are folded."""
NOTABLE_DAYS = 12
"""Days with a failure or a warning that are listed first."""
MAX_TEXT = 400


def render(report: Report) -> str:
    """The whole page as text."""
    environment = page_environment(Path(__file__).parent)
    environment.filters.update(score=score)
    days = sorted(report.days, key=lambda day: day.day)
    return (
        environment.get_template("template.html").render(
            report=report,
            days=days,
            notable=[day for day in days[::-1] if day.warnings or not day.balances][:NOTABLE_DAYS],
            recent=days[-RECENT_DAYS:][::-1],
            earlier=days[:-RECENT_DAYS][::-1],
            totals=totals(days),
            claims=claims(report),
            reasons=sorted(report.reasons.items(), key=lambda pair: (-pair[1], pair[0])),
            volumes=_volumes(days),
            migration=_migration(report.mix),
            changes=_changes(report.mix),
            movers=_movers(report),
            mix_legend=_legend(report.mix, always=True),
            models=[_model(model) for model in report.models],
        )
        + "\n"
    )


def page_environment(*folders: Path) -> Environment:
    """Where templates become pages: everything that comes from data is escaped, and shown rather than obeyed."""
    environment = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=plots.number, percent=plots.percent, moment=moment, age=age, change=change)
    return environment


def score(value: float) -> str:
    """A metric between 0 and 1, to four places, without a leading zero that says nothing."""
    return "–" if value != value else f"{value:.4f}"


def change(value: float) -> str:
    """A share more or less, `+3.2%`."""
    return "–" if value != value or abs(value) == float("inf") else f"{value:+.1%}"


def _shown(value: object) -> object:
    """Text that a page can only show: control, direction and unassigned characters become a visible mark."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    text = "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn") else c for c in value
    )
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _volumes(days: Sequence[DayQuality]) -> list[tuple[str, Markup]]:
    if not days:
        return []
    dates = [day.day.date for day in days]
    refused = [day.quarantined + day.duplicates for day in days]
    charts = [
        (
            "Published events",
            plots.bars_over_days(
                "published",
                "Published events over time",
                dates,
                plots.Bars("Published events", [d.published for d in days]),
            ),
        )
    ]
    if any(refused):
        charts.append(
            (
                "Quarantined and duplicate rows, on a scale of their own",
                plots.bars_over_days(
                    "refused",
                    "Quarantined and duplicate rows over time",
                    dates,
                    plots.Bars("Quarantined and duplicate rows", refused, "c3"),
                    height=70,
                ),
            )
        )
    return charts


def _migration(mix: Mix | None) -> Markup | None:
    if mix is None:
        return None
    names = [str(_shown(name)) for name in mix.names]
    drawing = plots.stream(
        "migration", "Share of interest by category over time", mix.starts, names, mix.shares, mix.has_rest
    )
    return drawing + _legend(mix)


def _legend(mix: Mix | None, always: bool = False) -> Markup:
    names = [str(_shown(name)) for name in mix.names] if mix else []
    colours = [plots.colour_of(i, len(names), bool(mix and mix.has_rest)) for i in range(len(names))]
    return plots.legend(list(zip(names, colours, strict=True)), always)


def _changes(mix: Mix | None) -> list[dict]:
    """Each category's share over the first and over the last quarter of the periods, weighted by events."""
    if mix is None or len(mix.starts) < 4:
        return []
    quarter = max(len(mix.starts) // 4, 1)
    ends = [
        [
            sum(mix.shares[i, j] * mix.events[i] for i in part) / max(sum(mix.events[i] for i in part), 1)
            for j in range(len(mix.names))
        ]
        for part in (range(quarter), range(len(mix.starts) - quarter, len(mix.starts)))
    ]
    rows = [
        {
            "name": name,
            "colour": plots.colour_of(i, len(mix.names), mix.has_rest),
            "before": ends[0][i],
            "after": ends[1][i],
            "change": 100 * (ends[1][i] - ends[0][i]),
        }
        for i, name in enumerate(mix.names)
    ]
    widest = max(abs(row["change"]) for row in rows) or 1.0
    return [row | {"width": 50 * abs(row["change"]) / widest} for row in sorted(rows, key=lambda row: -row["change"])]


def _movers(report: Report) -> list[dict]:
    """Each mover with two bars whose colours are those of the stream."""
    names = report.mix.names if report.mix else ()
    has_rest = bool(report.mix and report.mix.has_rest)
    colours = {name: plots.colour_of(i, len(names), has_rest) for i, name in enumerate(names)}
    grey = f"c{plots.NUM_COLOURS - 1}"
    rows = []
    for position, mover in enumerate(report.movers):
        bars = {}
        for when, shares, day in (("before", mover.before, mover.before_day), ("after", mover.after, mover.after_day)):
            parts = [(str(_shown(n)), s, colours.get(n, grey)) for n, s in zip(mover.names, shares, strict=True)]
            bars[when] = plots.mix_bar(
                f"mover{position}-{when}",
                f"Interest mix of user {_shown(mover.label)} on {day}",
                [p for p in parts if p[1] > 0.0005],
            )
        gains = sorted(
            zip(mover.names, mover.before, mover.after, strict=True), key=lambda row: (row[1] - row[2], row[0])
        )
        rows.append({"mover": mover, "bars": bars, "gain": gains[0], "loss": gains[-1]})
    return rows


def _model(model: ModelReport) -> dict:
    """A model's section: its rows with their intervals drawn on one scale."""
    lead = model.metrics[0] if model.metrics else ""
    return {
        "facts": model,
        "lead": lead,
        "rows": _drawn(model.rows, lead),
        "placebo": _drawn(model.placebo, model.placebo_metric, best_first=False),
    }


def _drawn(rows: Sequence[ScoreRow], metric: str, best_first: bool = True) -> list[dict]:
    held = [row for row in rows if metric in row.scores]
    if not held:
        return []
    finite = [
        v for row in held for v in (row.scores[metric].low, row.scores[metric].high, row.scores[metric].value) if v == v
    ]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    pad = 0.04 * (high - low or 1.0)
    bounds = (min(low - pad, 0.0) if low < 0 else max(low - pad, 0.0), high + pad)
    mark = next((row.scores[metric].value for row in held if row.role == "champion"), None)
    mark = 0.0 if mark is None and low < 0 < high else mark
    return [
        {
            "row": row,
            "lead": row.scores[metric],
            "drawing": plots.interval(
                row.scores[metric].value, row.scores[metric].low, row.scores[metric].high, bounds, row.role, mark
            )
            if row.scores[metric].value == row.scores[metric].value
            else "",
        }
        for row in (sorted(held, key=lambda row: _rank(row, metric)) if best_first else held)
    ]


def _rank(row: ScoreRow, metric: str) -> tuple[bool, float, str]:
    """Best first; a recommender without a value last."""
    value = row.scores[metric].value
    return value != value, -value if value == value else 0.0, row.name
