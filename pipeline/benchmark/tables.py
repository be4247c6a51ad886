"""The tables and plots of a benchmark: means with paired bootstrap intervals, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.benchmark.ablation import ablation_lines
from pipeline.benchmark.claims import claim_lines
from pipeline.benchmark.forecasts import forecast_lines
from pipeline.benchmark.peers import SASREC
from pipeline.evaluation.markdown import change_cell, markdown_table, mean_cell

METRICS = ("ndcg@10", "hr@10", "mrr@10", "recall@10", "recall@50")
FEW_COHORTS = ("new", "light", "heavy", "head items", "tail items", "cold items")


def markdown(result: Mapping) -> str:
    """`benchmark.json` for people."""
    split, asked, made = result["split"], result["questions"], result["provenance"]
    plan = result["plan"]
    again = "Items that a user had are neither recommended nor asked for."
    if plan["include_seen"]:
        again = "Items may be asked for again."
    lines = [
        "# Benchmark", "", "```", result["command"] or "(run from code)", "```", "",
        f"Split `{split['split']}`: {split['train_events']:,} events to train, {split['validation_events']:,} to "
        f"choose on, {split['test_events']:,} to test (from {split['test_start']}). {asked['users']:,} users are "
        f"asked, {asked['targets']:,} items are asked for, out of {split['items']:,}, of which "
        f"{split['items_without_training_event']:,} have no event before the test. Not asked: "
        f"{asked['outside_catalogue']:,} events of items of which nothing is known, {asked['without_history']:,} users "
        f"without history. {again}",
        "",
        f"`ndcg`, `hr` and `mrr` ask for the next item, `recall` for all later ones; the whole catalogue is ranked. "
        f"Means over {plan['seeds']} seeds; 95% intervals and changes to `{result['reference']}` by paired bootstrap "
        f"over users{' and seeds' if plan['seeds'] > 1 else ''}.", "",
    ]
    table, coverage = result["table"], result["coverage@10"]
    lines += markdown_table(
        ["model", *METRICS, "coverage@10"],
        ([row["model"], *(mean_cell(row[name]) for name in METRICS), f"{coverage[row['model']]:.3f}"] for row in table),
    )
    lines += ["", f"Change to `{result['reference']}`:", ""]
    lines += markdown_table(
        ["model", *METRICS], ([row["model"], *(change_cell(row[name]) for name in METRICS)] for row in table)
    )
    cohorts = {name: found for name, found in result["cohorts"].items() if name in FEW_COHORTS}
    models = [row["model"] for row in table]
    lines += ["", "recall@50 by cohort (users in brackets):", ""]
    lines += markdown_table(
        ["model", *(f"{name} ({found['users']:,})" for name, found in cohorts.items())],
        ([model, *(f"{found[model].get('recall@50') or 0:.4f}" for found in cohorts.values())] for model in models),
    )
    lines += ["", "Between seeds (ndcg@10 of each) and costs of the first seed:", ""]
    first = next(iter(result["costs"].values()))
    seeds = {model: ", ".join(f"{value:.4f}" for value in result["seeds"][model]["ndcg@10"]) for model in models}
    lines += markdown_table(
        ["model", "ndcg@10 by seed", "CPU s to fit", "s to score"],
        (
            [model, seeds[model], f"{first[model]['cpu_seconds']:.1f}", str(result["scoring_seconds"][model])]
            for model in models
        ),
    )
    for model, error in result["calibration_error"].items():
        lines += ["", f"{model} says how probable it is that a user takes an item of their list: off by {error:.4f} on "
                  "average (expected calibration error of the first 50 items, ten groups, first seed)."]
    lines += claim_lines(result["claims"])
    if ablation := result.get("ablation"):
        lines += ablation_lines(ablation)
    if forecasts := result.get("forecasts"):
        lines += forecast_lines(forecasts)
    for seed, costs in result["costs"].items():
        if found := costs.get("interest_evolution"):
            lines += [
                "",
                f"Seed {seed}: the interest model read {found['tokens']:,} tokens in {found['epochs']} epochs and "
                f"{found['training_cpu_seconds']} CPU seconds ({found['tokens_per_cpu_second']:,} tokens a CPU second, "
                f"validation included), stopped by {found['stopped_because']}, kept epoch {found['best_epoch']}.",
            ]
        if found and (peer := costs.get(SASREC)):
            ratio = found["tokens_per_cpu_second"] / max(peer["tokens_per_cpu_second"], 1)
            lines.append(
                f"{SASREC} read {peer['tokens']:,} in {peer['training_cpu_seconds']} CPU seconds "
                f"({peer['tokens_per_cpu_second']:,} a CPU second); the interest model reads {ratio:.1f} times as many."
            )
    packages = ", ".join(f"{name} {version}" for name, version in made["packages"].items() if version)
    lines += ["", f"Text vectors: {result['text_cpu_seconds']} CPU seconds (0 when they were in the cache). Revision "
              f"{made['revision']}, Python {made['python']}, {packages}; {made['processor']}, {made['cores']} cores, "
              f"{made['torch_threads']} threads.", ""]
    return "\n".join(lines)


def draw(result: Mapping, folder: Path) -> list[Path]:
    """Write `metrics.png`, `cohorts.png` and, where the interest model took part, `training.png`."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    rows = result["table"]
    names = [row["model"] for row in rows]
    shown = ("ndcg@10", "recall@10", "recall@50")
    figure = Figure(figsize=(12, 0.42 * len(rows) + 1.4), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(shown), sharey=True), shown, strict=True):
        means = np.array([row[metric]["mean"] for row in rows])
        spread = [means - [row[metric]["low"] for row in rows], [row[metric]["high"] for row in rows] - means]
        axes.barh(range(len(rows)), means, xerr=np.maximum(spread, 0.0), color="#4477aa", ecolor="#222222", capsize=2)
        axes.set_yticks(range(len(rows)), names)
        axes.set_title(metric)
    axes.invert_yaxis()
    written = [folder / "metrics.png"]
    figure.savefig(written[0], dpi=90)
    cohorts = {name: found for name, found in result["cohorts"].items() if name in FEW_COHORTS}
    figure = Figure(figsize=(12, 0.42 * len(rows) + 1.4), layout="constrained")
    for axes, (cohort, found) in zip(figure.subplots(1, len(cohorts), sharey=True, squeeze=False)[0], cohorts.items(),
                                     strict=True):
        axes.barh(range(len(rows)), [found[name].get("recall@50") or 0.0 for name in names], color="#4477aa")
        axes.set_yticks(range(len(rows)), names)
        axes.set_title(f"recall@50, {cohort}", fontsize=8)
    axes.invert_yaxis()
    written.append(folder / "cohorts.png")
    figure.savefig(written[1], dpi=90)
    curves = [costs["interest_evolution"]["curves"] for costs in result["costs"].values()
              if costs.get("interest_evolution")]
    if curves and curves[0]:
        wanted = [name for name in ("loss", "score", "validation_ndcg@10") if name in curves[0][0]]
        figure = Figure(figsize=(4 * len(wanted), 3), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(wanted), squeeze=False)[0], wanted, strict=True):
            for curve in curves:
                axes.plot([epoch[name] for epoch in curve])
            axes.set_title(name)
            axes.set_xlabel("epoch")
        written.append(folder / "training.png")
        figure.savefig(written[2], dpi=90)
    return written
