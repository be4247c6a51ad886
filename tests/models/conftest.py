"""A small interest model with random weights, and histories of every length to ask it about."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from pipeline.features.histories import FIRST_ITEM, Catalogue, Histories
from pipeline.models.interest_config import InterestEvolutionConfig
from pipeline.models.interest_evolution import InterestEvolutionModel
from pipeline.models.modalities import modality_vectors

HOUR = 3_600_000_000
TURN = datetime(2026, 3, 1, tzinfo=UTC)
LENGTHS = (0, 1, 2, 3, 7, 8, 9, 12, 30, 5)


@dataclass(frozen=True)
class InterestWorld:
    catalogue: Catalogue
    histories: Histories
    text: np.ndarray

    def config(self, **changes) -> InterestEvolutionConfig:
        fields = {"dim": 16, "layers": 2, "heads": 2, "feed_forward": 32, "history_length": 12} | changes
        config = InterestEvolutionConfig(**fields)
        widths = {name: vectors.shape[1] for name, vectors in modality_vectors(self.catalogue).items()}
        return config.for_data(self.catalogue, self.histories.event_types, self.text.shape[1], widths)

    def model(self, seed: int = 3, **changes) -> InterestEvolutionModel:
        """Every parameter is random, so that nothing is hidden behind a zero; all items but the last were trained."""
        import torch

        model = self._fresh(self.config(**changes), seed)
        with torch.no_grad():
            for value in model.parameters():
                value.add_(torch.randn_like(value) * 0.2)
            model.trend.uniform_(0.0, 1.0)
        model.trained_items[FIRST_ITEM:-1] = True
        return model.eval()


    def _fresh(self, config: InterestEvolutionConfig, seed: int) -> InterestEvolutionModel:
        modalities = modality_vectors(self.catalogue)
        return InterestEvolutionModel.for_catalogue(
            config, self.catalogue, self.text, seed, modalities=modalities
        )

    def learner(self, **changes) -> InterestEvolutionModel:
        """Fresh, and without dropout."""
        model = self._fresh(self.config(**changes, dropout=0.0), seed=3)
        model.trained_items[:] = True
        return model

    def losses_of_steps(self, events: dict, steps: int = 15, **changes) -> list[float]:
        """The loss of a learner before each step, on one batch."""
        import torch

        model, batch = self.learner(**changes), self.batch(events)
        optimiser, losses = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=0.01), []
        for _ in range(steps):
            loss = model(batch)["loss"]
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            losses.append(loss.item())
        return losses

    def parts_of_the_loss(self, events: dict, **changes) -> dict:
        """Name → scalar, of the same batch and a learner."""
        return self.learner(**changes)(self.batch(events))

    def batch(self, events: dict) -> dict:
        """A training batch in which users go on as `events` do."""
        import torch

        return {
            **events, "next_items": events["items"].roll(-1, dims=1), "next_types": events["types"].roll(-1, dims=1),
            "future_items": events["items"].roll(-2, dims=1)[..., None], "category_mix": torch.full((4, 12, 2), 0.5),
            "trend": torch.zeros(2, 22, 1), "trend_rows": torch.zeros(4, 12, dtype=torch.long),
        }


@pytest.fixture(scope="session")
def events() -> dict:
    """Four users with twelve events each, as a model reads them."""
    import torch

    generator = torch.Generator().manual_seed(0)
    return {
        "items": torch.randint(2, 22, (4, 12), generator=generator),
        "types": torch.randint(0, 3, (4, 12), generator=generator),
        "times": torch.randint(0, 10**12, (4, 12), generator=generator).sort(dim=1).values,
    }


@pytest.fixture(scope="session")
def interest_world() -> InterestWorld:
    generator = np.random.default_rng(1)
    catalogue = Catalogue.of([(f"i{n:02d}", f"item {n}", ("odd" if n % 2 else "even",)) for n in range(20)])
    events = sum(LENGTHS)
    text = generator.normal(size=(catalogue.num_items, 6)).astype(np.float32)
    text[:FIRST_ITEM] = 0.0
    histories = Histories(
        user_ids=np.array([f"u{n}" for n in range(len(LENGTHS))], dtype=object),
        offsets=np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int64),
        items=generator.integers(1, catalogue.num_items, events).astype(np.int32),
        types=generator.integers(0, 3, events).astype(np.int16),
        times=np.sort(generator.integers(0, 5000 * HOUR, events)),
        event_types=("view", "cart"),
    )
    return InterestWorld(catalogue, histories, text)


@pytest.fixture(scope="session")
def village():
    """80 users watch the same twenty items at random, then six of a circle of ten that nothing but the interest
    tells: the first 60 turn to it before the validation window, the last 20 in it."""
    rng = np.random.default_rng(5)
    rows = []
    for user in range(80):
        turn = TURN - timedelta(days=28 if user < 60 else 9)
        for place in range(16):
            item = int(rng.integers(20)) if place < 10 else 20 + 10 * (user % 4) + int(rng.integers(10))
            rows.append((f"{user}-{place}", f"u{user:02d}", f"i{item:02d}", "view", turn + timedelta(days=place - 10)))
    columns = ["event_id", "user_id", "item_id", "event_type", "event_time"]
    frame = pl.DataFrame(rows, schema=columns, orient="row").cast({"event_time": pl.Datetime("us", "UTC")})
    catalogue = Catalogue.of([(f"i{item:02d}", f"item {item}", []) for item in range(60)])
    return Histories.from_events(frame, catalogue, ("view",)), catalogue
