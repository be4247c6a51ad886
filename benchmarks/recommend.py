"""
Lists for many users out of a large catalogue: `python benchmarks/recommend.py [USERS] [ITEMS] [K]`.

A release with random weights, all parts of the hybrid at work, on a made-up log. Prints CPU seconds, and whether the
lists are those of a stable sort of the whole scores. It measures speed and says nothing about quality.
"""

import sys
import time
from datetime import timedelta

import numpy as np
import torch

from pipeline.features.histories import EPOCH, FIRST_ITEM, Catalogue, Histories
from pipeline.models.collaborative_filter import CollaborativeFilter
from pipeline.models.factor_model import FactorModel
from pipeline.models.interest_config import InterestEvolutionConfig
from pipeline.models.interest_evolution import InterestEvolutionModel
from pipeline.models.release import Release
from pipeline.serving.releases import USERS_AT_ONCE

DAY = 86_400_000_000
TEXT = 384
CHECKED = 200


def made_up_log(users: int, items: int, rng: np.random.Generator) -> tuple[Catalogue, Histories]:
    """Some ten events a user, a few users with hundreds; popularity falls with the rank of an item."""
    catalogue = Catalogue.of([(f"i{item:06d}", f"item {item}", [f"c{item % 40}"]) for item in range(items)])
    lengths = np.minimum(rng.geometric(0.1, users) + (rng.random(users) < 0.02) * 300, 400)
    events = int(lengths.sum())
    shares = 1.0 / np.arange(10, items + 10)
    drawn = rng.choice(items, events, p=shares / shares.sum()) + FIRST_ITEM
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    times = np.sort(rng.integers(0, 300 * DAY, events))
    ids = np.array([f"u{user:06d}" for user in range(users)], dtype=object)
    return catalogue, Histories(ids, offsets, drawn.astype(np.int32), np.ones(events, np.int16), times, ("view",))


def made_up_release(catalogue: Catalogue, histories: Histories, rng: np.random.Generator) -> Release:
    """The default sizes, random weights, and an interest that speaks."""
    text = rng.standard_normal((catalogue.num_items, TEXT)).astype(np.float32)
    config = InterestEvolutionConfig().for_data(catalogue, histories.event_types, TEXT)
    interest = InterestEvolutionModel.for_catalogue(config, catalogue, text, 7)
    interest.trained_items[FIRST_ITEM:] = True
    interest.eval().name_space()
    filtered = CollaborativeFilter(space_id=interest.config.space_id, interest_strength=(0.5, 0.1))
    filtered.catalogue, filtered.event_types = catalogue, histories.event_types
    filtered.interest_items = interest.item_vectors()
    filtered.model = FactorModel(catalogue.num_items, filtered.config.factors, config.dim, 1).eval()
    with torch.no_grad():
        for value in filtered.model.parameters():
            value.add_(torch.randn_like(value) * 0.1)
    return Release(filtered, interest, text).observe(histories, EPOCH + timedelta(days=300))


def main(users: int = 5_000, items: int = 12_000, k: int = 100) -> None:
    rng = np.random.default_rng(7)
    catalogue, histories = made_up_log(users, items, rng)
    release = made_up_release(catalogue, histories, rng)
    moment = EPOCH + timedelta(days=300)
    release.best(histories.take(np.arange(64)), k, None, moment)  # what is lazy is loaded
    parts = {name: 0.0 for name in release.hybrid.parts}
    for name, part in release.hybrid.parts.items():
        began = time.process_time()
        for first in range(0, users, USERS_AT_ONCE):
            part.scores(histories.take(np.arange(first, min(first + USERS_AT_ONCE, users))), moment)
        parts[name] = time.process_time() - began
    began, wall = time.process_time(), time.perf_counter()
    lists = []
    for first in range(0, users, USERS_AT_ONCE):
        some = histories.take(np.arange(first, min(first + USERS_AT_ONCE, users)))
        lists.append(release.best(some, k, (some.owners, some.items), moment)[0])
    spent, wall = time.process_time() - began, time.perf_counter() - wall
    some = histories.take(np.arange(min(CHECKED, users)))
    scores = release.scores(some, moment)
    scores[some.owners, some.items] = -np.inf
    same = np.array_equal(np.argsort(-scores, axis=1, kind="stable")[:, :k], np.concatenate(lists)[: some.num_users])
    print(f"{users:,} users, {items:,} items, {k} each, {torch.get_num_threads()} threads\n")
    print("| what | CPU s |\n|---|---|")
    for name, seconds in parts.items():
        print(f"| scores of {name} alone | {seconds:.2f} |")
    print(f"| lists of the hybrid, all in all | {spent:.2f} ({wall:.2f} s by the clock) |")
    print(f"\nLists equal a stable sort of all scores: {same}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
