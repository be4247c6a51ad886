"""
Trains both models as of a past day to look back: what would have been learnt from the restated days.

Such versions are registered with the tag `backtest` and a run key of their own. No gate decides on them, and the
registry never lets one serve.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from pipeline.errors import NoInterestModel
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.steps.collaborative_filter import train_collaborative_filter
from pipeline.steps.interest_evolution import train_interest_model
from pipeline.steps.item_text import embed_items
from pipeline.steps.model_runs import TrainedVersion


class Backtested(BaseModel):
    """The versions, and why a model was left out."""

    model_config = ConfigDict(frozen=True)

    as_of: str
    trained: tuple[TrainedVersion, ...]
    left_out: tuple[str, ...] = ()


def train_backtests(last: Day, settings: Settings, known_at: datetime) -> Backtested:
    """Train both models on everything up to and including a day. Twice is the same as once.

    Raises:
        BadPartition: no event lies before the validation window.
        FloatingPointError: the loss is not finite.
    """
    embed_items(settings, known_at)
    trained, left_out = [train_interest_model(last.end, settings, known_at, backtest=True)], []
    try:
        trained.append(train_collaborative_filter(last.end, settings, known_at, backtest=True))
    except NoInterestModel as reason:
        left_out.append(f"collaborative_filter: {reason}")
    return Backtested(as_of=last.key, trained=tuple(trained), left_out=tuple(left_out))
