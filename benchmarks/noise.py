"""
What a self-supervised warm-up and a noise filter are worth when logs are dirty, or small.

    python benchmarks/noise.py --events ratings.csv --items movies.csv --preset movielens [--budget 12]

Prints two tables: some of what is known of every user replaced by items drawn at random (0, 5, 10, 20%), and only some
of the users to learn from (1, 10, 100%). What is asked for is clean, and all users are asked, each about the last event
(leave one out). Every cell trains a model of its own for the same CPU seconds, those of the warm-up included.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.benchmark.item_texts import text_vectors
from pipeline.benchmark.log import read_log
from pipeline.benchmark.questions import LEAVE_ONE_OUT, BenchmarkSplit, split_log
from pipeline.evaluation.compare import compare
from pipeline.evaluation.comparison import Comparison
from pipeline.events.mapping import load_mapping
from pipeline.features.histories import FIRST_ITEM, Histories
from pipeline.models.interest_config import InterestEvolutionConfig
from pipeline.observability import configure_logs
from pipeline.partitions import utc_now
from pipeline.settings import Settings
from pipeline.training.epochs import TrainingRun
from pipeline.training.loop import train_interest_model

NOISE = (0.0, 0.05, 0.1, 0.2)
SHARES = (0.01, 0.1, 1.0)
ARMS = {"plain": {}, "warm-up": {"warm_up_steps": 40}, "noise filter": {"noise_filter": True}}
METRICS = ("ndcg@10", "recall@50")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=Path, required=True)
    parser.add_argument("--items", type=Path)
    parser.add_argument("--preset", required=True)
    parser.add_argument("--budget", type=float, default=12.0, help="CPU seconds of training, each cell")
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    configure_logs(level="WARNING")
    settings = Settings()
    log = read_log(asked.events, asked.items, load_mapping(asked.preset), settings.logs.earliest_event, utc_now())
    split = split_log(log, LEAVE_ONE_OUT, 0.9)
    with tempfile.TemporaryDirectory() as cache:
        text, space = text_vectors(
            split.catalogue, Path(cache), settings.text.encoder, settings.text.batch_size, settings.text.max_tokens
        )

    def cell(dirty: BenchmarkSplit, arm: str) -> Comparison:
        config = InterestEvolutionConfig.changed({"text_space_id": space, "final_share": 0.0, **ARMS[arm]})
        run = TrainingRun(
            seed=asked.seed, max_epochs=1000, patience=8, max_seconds=float("inf"), max_cpu_seconds=asked.budget
        )
        trained = train_interest_model(dirty.train, dirty.validation, split.catalogue, text, config, run)
        model = trained.model.observe(dirty.known, split.test_start)
        return compare({arm: model}, dirty.known, split.test, split.catalogue, split.test_start, samples=1000)

    clean = {arm: cell(split, arm) for arm in ARMS}
    show("replaced", {noise: clean if noise == 0.0 else {arm: cell(with_noise(split, noise, asked.seed), arm)
                                                         for arm in ARMS} for noise in NOISE})
    show("users to learn from", {share: clean if share == 1.0 else {arm: cell(of_some(split, share, asked.seed), arm)
                                                                    for arm in ARMS} for share in SHARES})


def with_noise(split: BenchmarkSplit, noise: float, seed: int) -> BenchmarkSplit:
    """The split with a share of the events that are known turned into events of any item."""
    return replace(split, **{
        name: noisy(getattr(split, name), split.catalogue.num_items, noise, [seed, part])
        for part, name in enumerate(("train", "validation"))
    }, known=noisy(split.train, split.catalogue.num_items, noise, [seed, 0]).followed_by(
        noisy(split.validation, split.catalogue.num_items, noise, [seed, 1])
    ))


def noisy(histories: Histories, num_items: int, noise: float, seed: list[int]) -> Histories:
    """Some of the events, each with an item drawn uniformly."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(FIRST_ITEM, num_items, histories.num_events).astype(histories.items.dtype)
    return replace(histories, items=np.where(rng.random(histories.num_events) < noise, drawn, histories.items))


def of_some(split: BenchmarkSplit, share: float, seed: int) -> BenchmarkSplit:
    """The split with some of the users to learn from; all of them are known when they are asked."""
    users = np.unique(np.concatenate([split.train.user_ids, split.validation.user_ids]).astype(str))
    kept = np.random.default_rng(seed).permutation(users)[: max(round(share * len(users)), 1)]
    return replace(split, **{
        name: getattr(split, name).take(np.flatnonzero(np.isin(getattr(split, name).user_ids.astype(str), kept)))
        for name in ("train", "validation")
    })


def show(what: str, cells: dict[float, dict[str, Comparison]]) -> None:
    """A line for each cell; the change is that to the plain model, paired by user, with its 95% interval."""
    print(f"\n| {what} | model | " + " | ".join(f"{metric} | change" for metric in METRICS) + " |")
    print("|---|---|" + "---|---|" * len(METRICS))
    for level, arms in cells.items():
        for arm, found in arms.items():
            numbers = []
            for metric in METRICS:
                own, plain = found.of(arm, metric), arms["plain"].of("plain", metric)
                numbers += [f"{np.nanmean(own):.4f}", "" if arm == "plain" else _change(own, plain)]
            print(f"| {level:.0%} | {arm} | " + " | ".join(numbers) + " |", flush=True)


def _change(own: np.ndarray, plain: np.ndarray) -> str:
    from pipeline.evaluation.bootstrap import paired_difference

    _, share = paired_difference(own, plain, 1000, 7, 0.95)
    return f"{share.mean:+.0%} ({share.low:+.0%} to {share.high:+.0%})"


if __name__ == "__main__":
    main()
