"""
A week's (or month's) training of the collaborative filter: anew, from the last version, and on the new days alone.

    python benchmarks/incremental.py --events online_retail.parquet --preset online-retail

The log is cut in time: a version is trained at the first cutoff, the next ones at the second, and all are asked for
what users do after it. `kept` is the first version, which is only told what is popular. Means over seeds, and the 95%
interval of the paired bootstrap of their change to training anew. No text and no long-term interest: both are the same
for all.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np

from pipeline.benchmark.log import read_log
from pipeline.benchmark.run import by_seed
from pipeline.benchmark.scores import score_table
from pipeline.evaluation.compare import compare
from pipeline.evaluation.comparison import Comparison
from pipeline.evaluation.markdown import change_table
from pipeline.events.mapping import load_mapping
from pipeline.features.histories import EPOCH, Catalogue, Histories
from pipeline.models.collaborative_filter import CollaborativeFilter, CollaborativeFilterConfig
from pipeline.partitions import utc_now
from pipeline.settings import Settings

METRICS = ("ndcg@10", "recall@10", "recall@50")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=Path, required=True)
    parser.add_argument("--items", type=Path)
    parser.add_argument("--preset", required=True, help="or a mapping file")
    parser.add_argument("--days", type=int, default=28, help="between the two cutoffs")
    parser.add_argument("--test-days", type=int, default=28)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    mapping, earliest = load_mapping(given.preset), Settings().logs.earliest_event
    log = read_log(given.events, given.items, mapping, earliest, utc_now())
    end = EPOCH + timedelta(microseconds=int(log.events["event_time"].dt.epoch("us").max()) + 1)
    second = end - timedelta(days=given.test_days)
    first = second - timedelta(days=given.days)
    catalogue = Catalogue.from_frames(log.items, log.events)
    types = tuple(sorted(log.events["event_type"].unique()))
    histories = Histories.from_events(log.events, catalogue, types)
    runs = [one_seed(histories, catalogue, first, second, end, seed) for seed in range(7, 7 + given.seeds)]
    comparisons, costs = [found for found, _ in runs], [cost for _, cost in runs]
    print(f"cutoffs {first:%Y-%m-%d} and {second:%Y-%m-%d}, {comparisons[0].facts['users']:,} users\n")
    rows = score_table(by_seed(comparisons), METRICS, comparisons[0].models[0], samples=1_000, seed=7)
    print(*change_table(rows, METRICS), sep="\n")
    spent = (f"{name} {np.mean([cost[name] for cost in costs]):.1f}" for name in costs[0])
    print(f"\nCPU seconds, means of {given.seeds} seeds: {', '.join(spent)}.")


def one_seed(histories, catalogue, first, second, end, seed) -> tuple[Comparison, dict[str, float]]:
    """The filters on the same questions, and the CPU seconds of each."""
    config = CollaborativeFilterConfig(seed=seed)
    known, cost = histories.before(second), {}

    def trained(name: str, config: CollaborativeFilterConfig, previous: CollaborativeFilter | None):
        began = time.process_time()
        made = CollaborativeFilter(config).fit(known, catalogue, second, previous=previous)
        cost[name] = time.process_time() - began
        return made

    last = CollaborativeFilter(config).fit(histories.before(first), catalogue, first)
    filters = {
        "trained anew": trained("trained anew", config, None),
        "from the last version": trained("from the last version", config, last),
        "on new days alone": trained("on new days alone", replace(config, new_days_only=True), last),
        "kept": last.observe(known, second),
    }
    return compare(filters, known, histories.between(second, end), catalogue, second, samples=1), cost


if __name__ == "__main__":
    main()
