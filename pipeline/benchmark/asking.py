"""One model is asked; its lists are written, and so is what was asked, for everybody who wants to score them again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.benchmark.questions import BenchmarkSplit
from pipeline.errors import ContractViolation
from pipeline.evaluation.compare import compare
from pipeline.evaluation.comparison import Comparison
from pipeline.evaluation.split import ask
from pipeline.features.histories import Catalogue, Histories
from pipeline.models.recommender import Recommender

DEPTH = 100
"""Items in a list."""


def check_answerable(split: BenchmarkSplit, include_seen: bool) -> None:
    """Raises ContractViolation where no model could be asked anything."""
    asked = ask(split.known, split.test, include_seen)
    if not asked.num_users:
        raise ContractViolation(
            f"Nobody can be asked: of {asked.events} test events {asked.outside_catalogue} are of items of which "
            f"nothing is known before {split.test_start:%Y-%m-%d %H:%M}, {asked.without_history} users are new, and "
            "the others only had again what they had. Try another --quantile, --split leave-one-out, --items with "
            "titles, or --include-seen."
        )


def ask_one(
    name: str,
    model: Recommender,
    split: BenchmarkSplit,
    text: np.ndarray | None,
    place: Path,
    tell: Callable[[str, datetime], None] | None,
    include_seen: bool,
    samples: int,
    seed: int,
    diversity: float = 0.0,
) -> Comparison:
    """The questions of the split put to a fitted model; its lists go to `place`. See `compare`."""
    return compare(
        {name: model}, split.known, split.test, split.catalogue, split.test_start,
        include_seen=include_seen, samples=samples, seed=seed, item_vectors=text, depth=DEPTH, diversity=diversity,
        tell=tell,
        keep=lambda _, users, lists, scores: write_lists(place, users, lists, scores, split.catalogue),
    )


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
