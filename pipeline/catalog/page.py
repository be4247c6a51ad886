"""The catalogue's pages: an index, and a page for each view. They open from a folder, without a script or a network."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from markupsafe import Markup

from pipeline.catalog.facts import Catalog, Feature, Frequent, Numbers, View
from pipeline.catalog.statistics import shown
from pipeline.report import plots
from pipeline.report.page import page_environment

TONES = {"fresh": "good", "stale": "bad", "absent": "warn", "lasting": "plain"}
WORDS = {
    "fresh": "fresh",
    "stale": "stale",
    "absent": "no row yet",
    "lasting": "holds until it changes",
}


def render_catalog(catalog: Catalog) -> dict[str, str]:
    """Every page by its file name; the same facts give the same text."""
    folder = Path(__file__).parent
    environment = page_environment(folder, folder.parent / "report")
    environment.filters.update(value=shown, page=page_of, tone=TONES.__getitem__, words=WORDS.__getitem__)
    pages = {
        page_of(v.name): environment.get_template("view.html").render(_facts_of(v, catalog)) for v in catalog.views
    }
    index = environment.get_template("index.html").render(
        catalog=catalog,
        held={s.name: Counter(name.partition(":")[0] for name in s.features) for s in catalog.services},
        claims=_claims(catalog),
    )
    return {name: f"{text}\n" for name, text in (pages | {"index.html": index}).items()}


def page_of(view: str) -> str:
    return f"{view}.html"


def _facts_of(view: View, catalog: Catalog) -> dict[str, object]:
    features = [{"facts": feature, "plots": _plots(feature), "numbers": _numbers(feature)} for feature in view.features]
    return {"catalog": catalog, "view": view, "features": features}


def _claims(catalog: Catalog) -> list[tuple[str, str]]:
    lines = []
    if catalog.stale:
        lines.append(("bad", f"Stale, older than promised: {', '.join(catalog.stale)}."))
    promised = [view for view in catalog.views if view.freshness.promise]
    if absent := [view.name for view in promised if view.freshness.state == "absent"]:
        lines.append(("warn", f"Without a row: {', '.join(absent)}."))
    return lines or [("good", "Every view keeps its promise of freshness.")]


def _numbers(feature: Feature) -> list[tuple[str, Numbers]]:
    """The feature's numbers, each with a heading."""
    found = feature.statistics
    what = "elements" if found.lengths else "values"
    named = (
        (what.capitalize(), found.numbers),
        ("Length of the list", found.lengths),
        ("Length of the vector", found.norms),
    )
    return [(heading, numbers) for heading, numbers in named if numbers is not None]


def _plots(feature: Feature) -> list[tuple[str, Markup]]:
    key = f"plot-{feature.name}"
    drawn = [
        (
            heading,
            plots.histogram(f"{key}-{i}", f"{heading} of {feature.name}", n.bins, shown(n.least), shown(n.greatest)),
        )
        for i, (heading, n) in enumerate(_numbers(feature))
        if n.greatest - n.least > 1e-6 * max(abs(n.greatest), 1.0)
    ]
    if len(feature.statistics.frequent) > 1:
        drawn.append(("Most frequent values", _shares(f"{key}-f", feature)))
    return drawn


def _shares(key: str, feature: Feature) -> Markup:
    frequent: tuple[Frequent, ...] = feature.statistics.frequent
    total = sum(one.count for one in frequent)
    colours = [plots.colour_of(i, len(frequent), False) for i in range(len(frequent))]
    parts = [(one.value, one.count / total, c) for one, c in zip(frequent, colours, strict=True)]
    bar = plots.mix_bar(key, f"Most frequent values of {feature.name}, as shares of these", parts)
    return bar + plots.legend([(name, colour) for name, _, colour in parts], always=True)
