"""
What a person should know about a trained version: a page of Markdown and two plots, kept with it in the registry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np

from pipeline.evaluation.comparison import SHOWN, Comparison
from pipeline.evaluation.markdown import markdown_table, mean_cell
from pipeline.evaluation.split import TimeSplit
from pipeline.features.histories import EPOCH, FIRST_ITEM, Histories

CURVES_A_ROW = 4
HYBRID = "hybrid"

INTENDED_USE = {
    "interest_evolution": (
        "Encodes a user's behaviour events into one unit vector, the long-term interest, and ranks the catalogue. "
        "Vectors of two versions may be compared only when their space ids are equal."
    ),
    "collaborative_filter": (
        "Ranks the catalogue for a user from behaviour events and the long-term interest vector of the one interest "
        "model that it was tuned with. Vectors of another space give no meaningful answer."
    ),
}

LIMITS = (
    "It repeats what the log shows. What was shown to users is not known to it, so popular items are favoured.",
    "Of a user with fewer than five events it knows little: see `new` among the cohorts.",
    "An item without an event is scored by its text alone, and not at all where it has none.",
    "The numbers are of the days before the cutoff; nothing here says how they change afterwards.",
)


def model_card(
    model: str,
    run_key: str,
    split: TimeSplit,
    evaluation: Mapping,
    params: Mapping[str, object],
    lineage: Mapping[str, str],
    learned: Histories,
) -> str:
    """The model card, in Markdown; `learned` is what the weights were learned from."""
    facts = evaluation["comparison"]["facts"]
    items = len(np.unique(learned.items[learned.items >= FIRST_ITEM]))
    trained_on = f"{learned.num_events:,} events of {int((learned.lengths > 0).sum()):,} users on {items:,} items"
    told = {
        "run": f"`{run_key}`",
        "trained on": trained_on + _since(learned),
        "trained before": split.validation_start.isoformat(),
        "checkpoint chosen, and a last pass learned, before": split.test_start.isoformat(),
        "tested before (model cutoff)": split.as_of.isoformat(),
        "users, events, items in the test": f"{facts['users']}, {facts['events']}, {facts['items']}",
        **{name: f"`{value}`" for name, value in sorted(lineage.items())},
    }
    lines = [
        f"# {model}",
        "",
        "## Intended use",
        "",
        INTENDED_USE[model],
        "",
        "## Data and cutoff",
        "",
        *markdown_table(["what", "value"], told.items()),
        "",
        "## On the test window",
        "",
        "Full-catalogue ranking, a split by time, items already seen left out; intervals by bootstrap over users.",
        "",
        *_table(evaluation["comparison"]["table"]),
        "",
    ]
    cohorts = evaluation["comparison"].get("by_cohort") or {}
    lines += ["## By cohort", "", *_by_cohort(cohorts, model), ""]
    if model != HYBRID and any(HYBRID in found for found in cohorts.values()):
        lines += ["Of the hybrid, which is what users get:", "", *_by_cohort(cohorts, HYBRID), ""]
    error = (evaluation["comparison"].get("calibration") or {}).get(HYBRID)
    if error is not None:
        lines += [f"Its probabilities are off by {error:.4f} on average (expected calibration error).", ""]
    if evaluation.get("placebo"):
        lines += ["## Does the long-term interest help?", "", *_table(evaluation["placebo"]["table"]), ""]
    if evaluation.get("hybrid_placebo"):
        lines += ["And in the hybrid:", "", *_table(evaluation["hybrid_placebo"]["table"]), ""]
    if evaluation.get("staleness"):
        lines += ["## With a state some days old", "", *_table(evaluation["staleness"]["table"]), ""]
    lines += ["## Limits", "", *(f"- {limit}" for limit in LIMITS), ""]
    lines += ["## Configuration", "", *(f"- `{name}`: {value}" for name, value in sorted(params.items())), ""]
    return "\n".join(lines)


def draw_plots(folder: Path, comparison: Comparison, curves: Mapping[str, Sequence[float]]) -> list[Path]:
    """Write `metrics.png` (every model with its interval) and, where there are curves, `training.png`."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    metrics = ("ndcg@10", "recall@50")
    figure = Figure(figsize=(9, 0.45 * len(comparison.models) + 1.4), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(metrics), sharey=True), metrics, strict=True):
        found = [comparison.interval(model, metric) for model in comparison.models]
        means = np.nan_to_num([interval.mean for interval in found])
        spread = np.nan_to_num([[i.mean - i.low for i in found], [i.high - i.mean for i in found]])
        axes.barh(range(len(found)), means, xerr=np.maximum(spread, 0.0), color="#4477aa", ecolor="#222222", capsize=2)
        axes.set_yticks(range(len(found)), comparison.models)
        axes.set_title(f"{metric}, {comparison.facts['users']} users")
    axes.invert_yaxis()
    written = [folder / "metrics.png"]
    figure.savefig(written[0], dpi=90)
    if drawn := {name: values for name, values in curves.items() if len(values) > 1}:
        columns = min(len(drawn), CURVES_A_ROW)
        rows = -(-len(drawn) // columns)
        figure = Figure(figsize=(3.2 * columns, 2.6 * rows), layout="constrained")
        places = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (name, values) in zip(places, drawn.items(), strict=False):
            axes.plot(range(len(values)), values, color="#4477aa")
            axes.set_title(name, fontsize=9)
            axes.set_xlabel("epoch", fontsize=8)
        for axes in places[len(drawn) :]:
            axes.set_visible(False)
        written.append(folder / "training.png")
        figure.savefig(written[1], dpi=90)
    return written


def _since(learned: Histories) -> str:
    if not learned.num_events:
        return ""
    first = EPOCH + timedelta(microseconds=int(learned.times.min()))
    return f", the first of {first:%Y-%m-%d}"


def _by_cohort(cohorts: Mapping[str, Mapping[str, Mapping]], model: str) -> list[str]:
    """The model's means for each cohort in which somebody has a value."""
    rows = {name: found[model] for name, found in cohorts.items() if found.get(model, {}).get("users")}
    return markdown_table(
        ["cohort", "users", *SHOWN],
        (
            [name, str(row["users"]), *("no value" if row.get(m) is None else f"{row[m]:.4f}" for m in SHOWN)]
            for name, row in rows.items()
        ),
    )


def _table(rows: Sequence[Mapping]) -> list[str]:
    """The rows of `Comparison.table`, as it was saved, as Markdown."""
    shown = [name for name in SHOWN if rows and name in rows[0]]
    cells = ([row["model"], *(mean_cell(row[name]) for name in shown)] for row in rows)
    return markdown_table(["model", *shown], cells)
