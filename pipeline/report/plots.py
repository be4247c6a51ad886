"""
Charts as inline SVG. No script, no network, no font that is not there.

The drawing stretches to the width of the page (`preserveAspectRatio="none"`); the words around it are HTML, so they
keep their size on a narrow screen. Colours are names (`c0` to `c7`) that the page's style sheet gives a value in light
and in dark; every chart has a title and a description for people who cannot see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import ceil, floor, log10

import numpy as np
from markupsafe import Markup

WIDTH = 1000.0
NUM_COLOURS = 8
"""Seven colours and, last, a grey for everything else."""
MAX_BARS = 120
MIN_GAP = 5.5
"""Least distance between two labels at the right edge, in percent of the height."""


@dataclass(frozen=True)
class Bars:
    """One panel of bars over days: a value a day, in the order of the days."""

    name: str
    values: Sequence[float]
    colour: str = "c0"


def colour_of(position: int, total: int, has_rest: bool) -> str:
    """The colour of the category at `position` of `total`; grey for the rest, if the last one is the rest."""
    if has_rest and position == total - 1:
        return f"c{NUM_COLOURS - 1}"
    return f"c{position % (NUM_COLOURS - 1)}"


def bars_over_days(key: str, title: str, days: Sequence[date], panel: Bars, height: int = 150) -> Markup:
    """A panel of bars, one a day; long ranges are summed into weeks so that no bar is thinner than it can be seen."""
    first, values, step = _binned(days, np.asarray(panel.values, dtype=float))
    top = nice_ceiling(float(values.max(initial=0.0)))
    slot = WIDTH / max(len(values), 1)
    gap = min(slot * 0.22, 4.0)
    unit = "week from" if step == 7 else "day"
    bars = Markup("").join(
        Markup(
            '<rect class="{}" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"><title>{} {}: {}</title></rect>'
        ).format(
            panel.colour,
            i * slot + gap / 2,
            height * (1 - value / top),
            slot - gap,
            height * value / top,
            unit,
            (first + timedelta(days=step * i)).isoformat(),
            number(value),
        )
        for i, value in enumerate(values)
        if value > 0
    )
    described = (
        f"{panel.name} by {'week' if step == 7 else 'day'}, {days[0]} to {days[-1]}. "
        f"Sum {number(values.sum())}, highest {number(values.max(initial=0))}."
    )
    drawing = _svg(key, title, described, height, _grid(height, 2) + bars)
    ticks = _date_ticks(first, first + timedelta(days=step * len(values)))
    return _plot(drawing, [(0.0, number(top)), (50.0, number(top / 2)), (100.0, "0")], ticks, [])


def stream(
    key: str, title: str, starts: Sequence[date], names: Sequence[str], shares: np.ndarray, has_rest: bool
) -> Markup:
    """A stream of shares over time that fills the whole height.

    Args:
        starts: the first day of each period, rising.
        shares: [periods, names]; each row adds up to 1, or to 0 where the period had no event (a gap is drawn).
    """
    height = 360
    edges = np.concatenate([np.zeros((len(starts), 1)), np.cumsum(shares, axis=1)], axis=1)
    days = np.array([start.toordinal() for start in starts], dtype=float)
    span = max(days[-1] - days[0], 1.0)
    x = (days - days[0]) / span * WIDTH if len(starts) > 1 else np.array([0.0])
    if len(starts) == 1:
        x, edges = np.array([0.0, WIDTH]), np.repeat(edges, 2, axis=0)
    areas = []
    for position, name in enumerate(names):
        upper = [(x[i], height * edges[i, position]) for i in range(len(x))]
        lower = [(x[i], height * edges[i, position + 1]) for i in reversed(range(len(x)))]
        areas.append(
            Markup('<path class="{} band" d="{}"><title>{}: {} at the start, {} at the end</title></path>').format(
                colour_of(position, len(names), has_rest),
                _closed(upper + lower),
                name,
                percent(shares[0, position]),
                percent(shares[-1, position]),
            )
        )
    described = "Share of each category. " + "; ".join(
        f"{name} from {percent(shares[0, i])} to {percent(shares[-1, i])}" for i, name in enumerate(names)
    )
    middles = [100 * (edges[-1, i] + edges[-1, i + 1]) / 2 for i in range(len(names))]
    ends = [
        (top, name, percent(shares[-1, i]), colour_of(i, len(names), has_rest))
        for i, (top, name) in enumerate(zip(_spread(middles), names, strict=True))
    ]
    ticks = _date_ticks(starts[0], starts[-1] if len(starts) > 1 else starts[0] + timedelta(days=1))
    drawing = _svg(key, title, described + ".", height, Markup("").join(areas))
    return _plot(drawing, [(0.0, "100 %"), (50.0, "50 %"), (100.0, "0 %")], ticks, ends)


def histogram(key: str, title: str, counts: Sequence[int], least: str, greatest: str, height: int = 90) -> Markup:
    """Bars of equal width side by side; `least` and `greatest` name the two ends of the axis."""
    top = nice_ceiling(float(max(counts, default=0)))
    slot = WIDTH / max(len(counts), 1)
    bars = Markup("").join(
        Markup('<rect class="c0" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"><title>{}</title></rect>').format(
            i * slot + 1, height * (1 - count / top), slot - 2, height * count / top, number(count)
        )
        for i, count in enumerate(counts)
        if count
    )
    described = f"{number(sum(counts))} values from {least} to {greatest} in {len(counts)} equal parts."
    drawing = _svg(key, title, described, height, _grid(height, 2) + bars)
    return _plot(drawing, [(0.0, number(top)), (100.0, "0")], [(0.0, least), (86.0, greatest)], [])


def mix_bar(key: str, title: str, shares: Sequence[tuple[str, float, str]]) -> Markup:
    """One lying bar of shares: (name, share, colour). The widest segments are named beside it by the page."""
    x, parts = 0.0, []
    for name, share, colour in shares:
        parts.append(
            Markup(
                '<rect class="{} segment" x="{:.2f}" y="0" width="{:.2f}" height="20"><title>{}: {}</title></rect>'
            ).format(colour, x * WIDTH, share * WIDTH, name, percent(share))
        )
        x += share
    described = ", ".join(f"{name} {percent(share)}" for name, share, _ in shares)
    return _svg(key, title, described, 20, Markup("").join(parts), "mix")


def interval(
    value: float, low: float, high: float, bounds: tuple[float, float], tone: str, mark: float | None = None
) -> Markup:
    """A value as a dot on its interval, drawn between `bounds`; `mark` is a reference line. For a table's cell.

    It repeats what stands in the cells beside it, so it is hidden from screen readers.
    """
    left, right = bounds
    width = (right - left) or 1.0
    at = [100 * min(max((v - left) / width, 0.0), 1.0) for v in (value, low, high)]
    reference = (
        Markup('<i class="reference" style="left:{:.2f}%"></i>').format(100 * (mark - left) / width)
        if mark is not None
        else ""
    )
    return Markup(
        '<span class="interval {}" aria-hidden="true">{}<i class="whisker" style="left:{:.2f}%;width:{:.2f}%"></i>'
        '<i class="dot" style="left:{:.2f}%"></i></span>'
    ).format(tone, reference, at[1], at[2] - at[1], at[0])


def number(value: float) -> str:
    """A count for people: 1,234; 12.3 k from ten thousand on an axis would hide the difference, so none is rounded."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def percent(share: float) -> str:
    """A share for people; a small one that is not nothing is not shown as nothing."""
    if share == 0:
        return "0 %"
    if share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"


def nice_ceiling(value: float) -> float:
    """The first of 1, 2, 4, 5, 8 times a power of ten that is not below `value`; 1 for nothing."""
    if value <= 1:
        return 1.0
    power = 10.0 ** floor(log10(value))
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= value)


def _binned(days: Sequence[date], values: np.ndarray) -> tuple[date, np.ndarray, int]:
    """Every day from the first to the last (absent ones 0), or weeks of them; the start, the values, the step."""
    first, length = days[0], (days[-1] - days[0]).days + 1
    dense = np.zeros(length)
    for day, value in zip(days, values, strict=True):
        dense[(day - first).days] += value
    if length <= MAX_BARS:
        return first, dense, 1
    monday = first - timedelta(days=first.weekday())
    lead = (first - monday).days
    padded = np.zeros(7 * ceil((lead + length) / 7))
    padded[lead : lead + length] = dense
    return monday, padded.reshape(-1, 7).sum(axis=1), 7


def _date_ticks(first: date, last: date, most: int = 7) -> list[tuple[float, str]]:
    """Up to `most` dates with their place in percent: days, else firsts of months, else of years."""
    span = max((last - first).days, 1)
    if span <= 45:
        every = max(1, ceil(span / most))
        chosen = [first + timedelta(days=i) for i in range(0, span, every)]
        labels = [f"{d.day} {d:%b}" for d in chosen]
    else:
        months = [(y, m) for y in range(first.year, last.year + 1) for m in range(1, 13)]
        firsts = [d for d in (date(y, m, 1) for y, m in months) if first <= d <= last]
        every = next((n for n in (1, 2, 3, 6, 12, 24, 60, 120) if len(firsts) / n <= most), 240)
        chosen = [d for d in firsts if (d.year * 12 + d.month - 1) % every == 0]
        labels = [f"{d:%b %Y}" if i == 0 or d.month == 1 else f"{d:%b}" for i, d in enumerate(chosen)]
    return [(100 * (d - first).days / span, label) for d, label in zip(chosen, labels, strict=True)]


def _spread(places: Sequence[float]) -> list[float]:
    """Rising places moved apart so that no two are nearer than MIN_GAP, and all are within 0 to 100."""
    moved = list(places)
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + MIN_GAP)
    if moved and moved[-1] > 98:
        moved[-1] = 98.0
        for i in range(len(moved) - 2, -1, -1):
            moved[i] = min(moved[i], moved[i + 1] - MIN_GAP)
    return moved


def _closed(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points) + "Z"


def _grid(height: float, parts: int) -> Markup:
    return Markup("").join(
        Markup('<line class="grid" x1="0" x2="1000" y1="{0:.1f}" y2="{0:.1f}"/>').format(height * i / parts)
        for i in range(parts + 1)
    )


def _svg(key: str, title: str, described: str, height: float, drawing: Markup, kind: str = "canvas") -> Markup:
    return Markup(
        '<svg class="{kind}" viewBox="0 0 1000 {height:.0f}" preserveAspectRatio="none" role="img" '
        'aria-labelledby="{key}-t {key}-d" style="--h:{height:.0f}px">'
        '<title id="{key}-t">{title}</title><desc id="{key}-d">{described}</desc>{drawing}</svg>'
    ).format(kind=kind, height=height, key=key, title=title, described=described, drawing=drawing)


def _plot(
    drawing: Markup,
    rows: Sequence[tuple[float, str]],
    columns: Sequence[tuple[float, str]],
    ends: Sequence[tuple[float, str, str, str]],
) -> Markup:
    """The drawing with words around it. They repeat the description, so they are hidden from screen readers."""
    left = Markup("").join(Markup('<span style="top:{:.1f}%">{}</span>').format(top, text) for top, text in rows)
    below = Markup("").join(
        Markup('<span{} style="left:{:.2f}%">{}</span>').format(Markup(' class="edge"') if at > 94 else "", at, text)
        for at, text in columns
    )
    right = Markup("").join(
        Markup('<span style="top:{:.1f}%"><i class="key {}"></i><b>{}</b> {}</span>').format(top, colour, name, share)
        for top, name, share, colour in ends
    )
    return Markup(
        '<div class="plot{}"><div class="rows" aria-hidden="true">{}</div>{}'
        '<div class="ends" aria-hidden="true">{}</div><div class="columns" aria-hidden="true">{}</div></div>'
    ).format(" with-ends" if ends else "", left, drawing, right, below)


def legend(entries: Sequence[tuple[str, str]], always: bool = False) -> Markup:
    """Names with their colours; unless `always`, only on screens too narrow for labels at the edge."""
    return Markup('<p class="legend{}">{}</p>').format(
        " always" if always else "",
        Markup("").join(Markup('<span><i class="key {}"></i>{}</span>').format(c, n) for n, c in entries),
    )
