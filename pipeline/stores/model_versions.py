"""
What is known about a registered model version beside its weights, and how that is written as tags.

A version is a value; the registry makes it and moves it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

import polars as pl

MODELS = ("interest_evolution", "collaborative_filter")
"""Every model that is registered, in the order in which they are trained."""
BACKTEST = "backtest"
"""The tag of a version that was trained to look back: it can never serve."""
Status = Literal["candidate", "promoted", "held", "rolled_back"]


@dataclass(frozen=True)
class Dataset:
    """What a version was trained on, as MLflow shows it: a sample of rows for the schema, and where the rest lies."""

    name: str
    sample: pl.DataFrame = field(repr=False)
    path: str
    version: int


@dataclass(frozen=True)
class Card:
    """What stands in the registry beside a model's files."""

    model_cutoff: datetime
    trained_until: datetime
    space_id: str
    loader: str
    """The module whose `_load_pyfunc(folder)` reads the files; it has to be importable where the model is served."""
    example: pl.DataFrame
    answer: pl.DataFrame
    """What the model says to `example`; the two give the signature."""
    lineage: dict[str, str] = field(default_factory=dict)
    params: dict[str, object] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    """One value an epoch."""
    datasets: Sequence[Dataset] = ()
    artifacts: Sequence[Path] = ()
    """Files kept beside the model: evaluation, plots, model card."""


@dataclass(frozen=True)
class Version:
    """One registered version. Its number is unique within its model and is never given twice."""

    model: str
    number: int
    run_key: str
    status: Status
    model_cutoff: datetime
    trained_until: datetime
    space_id: str
    reasons: tuple[str, ...]
    tags: dict[str, str] = field(repr=False)
    run_id: str = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.model} version {self.number}"

    @property
    def was_promoted(self) -> bool:
        """Whether the gate let it serve, even where a rollback has withdrawn it since."""
        return self.status in ("promoted", "rolled_back")

    @property
    def withdrawn(self) -> tuple[tuple[datetime, datetime | None], ...]:
        """The spans, [from, until), in which a rollback keeps it from serving; without an end where it still does."""
        spans = json.loads(self.tags.get("withdrawn", "[]"))
        return tuple((datetime.fromisoformat(a), datetime.fromisoformat(b) if b else None) for a, b in spans)

    def serves(self, moment: datetime) -> bool:
        """Whether it may serve a day that begins at `moment`: promoted, not of the future, not withdrawn then."""
        spans = self.withdrawn
        is_withdrawn = any(start <= moment and (end is None or moment < end) for start, end in spans)
        return self.was_promoted and self.model_cutoff <= moment and not is_withdrawn


def tags_of(run_key: str, digest: str, card: Card) -> dict[str, str]:
    """The tags that a version is registered with."""
    return {
        **card.lineage,
        "run_key": run_key,
        "manifest": digest,
        "model_cutoff": card.model_cutoff.isoformat(),
        "trained_until": card.trained_until.isoformat(),
        "space_id": card.space_id,
    }


def version_of(model: str, number: int | str, run_id: str, tags: Mapping[str, str]) -> Version:
    """A version from its tags. The registry's database gives the number as an int, its server as text."""
    return Version(
        model=model,
        number=int(number),
        run_key=tags["run_key"],
        status=tags.get("status", "candidate"),
        model_cutoff=datetime.fromisoformat(tags["model_cutoff"]),
        trained_until=datetime.fromisoformat(tags["trained_until"]),
        space_id=tags["space_id"],
        reasons=tuple(json.loads(tags.get("reasons", "[]"))),
        tags=dict(tags),
        run_id=run_id,
    )
