"""A tiny world with a pattern to learn: two groups of users, each going round its own items."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import torch

from pipeline.features.histories import FIRST_ITEM, Catalogue, Histories, microseconds_of
from pipeline.models.interest_config import InterestEvolutionConfig

START = datetime(2026, 1, 1, tzinfo=UTC)
SMALL = {
    "dim": 16, "layers": 1, "heads": 2, "feed_forward": 32, "dropout": 0.1, "history_length": 12,
    "tokens_a_batch": 64, "warmup_steps": 5, "learning_rate": 0.01, "batches_an_epoch": 20,
    "new_items_only": False,
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Sums of floats depend on how many threads share them, and runs are compared here, those of fixtures too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Rounds:
    catalogue: Catalogue
    train: Histories
    validation: Histories
    text: np.ndarray

    def config(self, **changes) -> InterestEvolutionConfig:
        return InterestEvolutionConfig.changed(SMALL | changes)

    @property
    def inputs(self) -> tuple:
        """The first four arguments of `train_interest_model`."""
        return self.train, self.validation, self.catalogue, self.text


@pytest.fixture(scope="session")
def rounds() -> Rounds:
    """24 users over 30 days, an event a day; the last 6 days are for validation."""
    catalogue = Catalogue.of(
        [(f"{group}{n}", f"{group} number {n}", (group, ("even", "odd")[n % 2])) for group in "ab" for n in range(6)]
    )
    days = [list(range(user % 20, 30)) for user in range(24)]
    flat = [(user, day) for user, active in enumerate(days) for day in active]
    times = [START + timedelta(days=day, hours=user % 12, minutes=user) for user, day in flat]
    histories = Histories(
        user_ids=np.array([f"u{user:02d}" for user in range(24)], dtype=object),
        offsets=np.concatenate([[0], np.cumsum([len(active) for active in days])]).astype(np.int64),
        items=np.array([FIRST_ITEM + 6 * (user % 2) + (day + user) % 6 for user, day in flat], dtype=np.int32),
        types=np.array([1 + day % 2 for _, day in flat], dtype=np.int16),
        times=np.array([microseconds_of(moment) for moment in times], dtype=np.int64),
        event_types=("view", "purchase"),
    )
    text = np.random.default_rng(0).normal(size=(catalogue.num_items, 5)).astype(np.float32)
    text[:FIRST_ITEM] = 0.0
    looks = np.random.default_rng(1).normal(size=(catalogue.num_items, 4)).astype(np.float32)
    looks[[*range(FIRST_ITEM), 5]] = 0.0
    catalogue = replace(catalogue, vectors={"image": looks})
    border = START + timedelta(days=24)
    return Rounds(catalogue, histories.before(border), histories.between(border, START + timedelta(days=30)), text)
