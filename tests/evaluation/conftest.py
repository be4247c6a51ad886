"""Small logs that are written by hand, for evaluations that can be checked by hand."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from pipeline.features.histories import Catalogue, Histories

START = datetime(2026, 3, 1, tzinfo=UTC)


class Scripted:
    """A recommender that says what it is told: a row of scores for each user id."""

    def __init__(self, rows: dict[str, np.ndarray], name: str = "scripted") -> None:
        self.rows, self.name = rows, name

    def fit(self, histories, catalogue, as_of):
        return self

    def scores(self, histories, as_of):
        found = np.stack([np.asarray(self.rows[user], dtype=np.float32) for user in histories.user_ids])
        found[:, :2] = -np.inf
        return found


@pytest.fixture
def scripted() -> type[Scripted]:
    return Scripted


@pytest.fixture
def catalogue() -> Catalogue:
    """Eight items, `a` to `h`, at the indices 2 to 9; two categories."""
    return Catalogue.of([(item, f"title {item}", ["left" if item < "e" else "right"]) for item in "abcdefgh"])


@pytest.fixture
def histories_of(catalogue) -> Callable[[dict[str, str], float], Histories]:
    """`{"u1": "ab|cd"}`: u1 had a and b, an hour apart, before START, and c and d after it."""

    def build(scripts: dict[str, str]) -> Histories:
        rows = []
        for user, script in scripts.items():
            before, _, after = script.partition("|")
            moments = [START - timedelta(hours=len(before) - place) for place in range(len(before))]
            moments += [START + timedelta(hours=1 + place) for place in range(len(after))]
            rows += [
                (f"{user}-{number}", user, item, "view", moment)
                for number, (item, moment) in enumerate(zip(before + after, moments, strict=True))
            ]
        frame = pl.DataFrame(
            rows,
            schema={
                "event_id": pl.String,
                "user_id": pl.String,
                "item_id": pl.String,
                "event_type": pl.String,
                "event_time": pl.Datetime("us", "UTC"),
            },
            orient="row",
        )
        return Histories.from_events(frame, catalogue, ("view",))

    return build


@pytest.fixture
def start() -> datetime:
    return START
