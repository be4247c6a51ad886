"""
What each part of the interest model is worth: trained from its items' ids alone, and then with one part more at a time.

    id only | + text | + all-action | + category mix | + trend | + time | + event type | + pooled history

Every rung gets the same budget, the seeds of the benchmark and nothing but the switches of its configuration changed. A
part that the log cannot feed (no text, one category, one event type) has no rung. The last rung is the model as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from pipeline.benchmark.questions import BenchmarkSplit
from pipeline.benchmark.scores import score_table
from pipeline.evaluation.markdown import change_table

SHOWN = ("ndcg@10", "recall@10", "recall@50")
ID_ONLY = "id only"
SWITCHES: dict[str, tuple[str, object]] = {
    "text": ("reads_text", False),
    "all-action": ("future_weight", 0.0),
    "category mix": ("mix_weight", 0.0),
    "trend": ("reads_trend", False),
    "time": ("reads_time", False),
    "event type": ("type_weight", 0.0),
    "pooled history": ("pools_history", False),
}
"""part → the field of the configuration, and the value at which the part is off; in the order of the rungs"""


def rungs_of(split: BenchmarkSplit, text: np.ndarray | None) -> Iterator[tuple[str, dict[str, object]]]:
    """(name, changes of the configuration), from the barest model to the whole one."""
    idle = {
        "text": text is None,
        "category mix": len(split.catalogue.category_names) < 2,
        "event type": len(split.train.event_types) < 2,
    }
    parts = [part for part in SWITCHES if not idle.get(part, False)]
    for added in range(len(parts) + 1):
        name = f"+ {parts[added - 1]}" if added else ID_ONLY
        yield name, dict(SWITCHES[part] for part in parts[added:])


def ablation_table(
    rungs: Sequence[tuple[str, Mapping[str, object]]],
    seeds: Sequence[int],
    measure: Callable[[str, Mapping[str, object], int], Mapping[str, np.ndarray]],
    samples: int,
) -> list[dict]:
    """A row for each rung, as in `score_table`; `change` is to the rung before, of the first one to itself.

    Args:
        measure: of a rung's name, its changes and a seed, metric → [users].
    """
    values: dict[str, dict[str, np.ndarray]] = {}
    for name, changes in rungs:
        of_seeds = [measure(name, changes, seed) for seed in seeds]
        values[name] = {metric: np.stack([found[metric] for found in of_seeds]) for metric in SHOWN}
    names = [*values]
    rows = []
    for name, before in zip(names, [names[0], *names], strict=False):
        table = score_table({each: values[each] for each in {before: 0, name: 0}}, SHOWN, before, samples, seeds[0])
        rows.append(table[-1])
    return rows


def ablation_lines(rows: Sequence[Mapping]) -> list[str]:
    """The table in Markdown."""
    title = "The interest model, one part more in every row; changes to the row above:"
    return ["", title, "", *change_table(rows, SHOWN)]
