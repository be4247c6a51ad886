"""
What a series will be on average over the next steps: the time-series arms that the category-mix head must beat.

A series is one float64 array [steps] of how much somebody, or everybody, did in one category, oldest first. An arm
answers for many series at once: float64 [series], the mean forecast of the next `horizon` steps, never below 0.

    LongRunMean         what was on average
    SeasonalNaive       the last season, repeated (Hyndman & Athanasopoulos, Forecasting, 5.2)
    StatisticalModel    ETS or ARIMA, its form chosen for each series by AICc (statsforecast)
    GlobalLSTM          one network for all series, each divided by its own mean (Hewamalage et al. 2021)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import nn

from pipeline.errors import BadSetting

FEW_STEPS = 8
"""Of a shorter series the mean is as much as can be said."""


class Forecaster(Protocol):
    """One arm."""

    name: str

    def forecast(self, series: Sequence[np.ndarray], horizon: int) -> np.ndarray: ...


@dataclass(frozen=True)
class LongRunMean:
    """The mean of all that is known; 0 for an empty series."""

    name: str = "long_run_mean"

    def forecast(self, series: Sequence[np.ndarray], horizon: int) -> np.ndarray:
        return np.array([values.mean() if len(values) else 0.0 for values in series])


@dataclass(frozen=True)
class SeasonalNaive:
    """Step T + h will be as the last step at the same place of the season was."""

    season: int
    name: str = "seasonal_naive"

    def forecast(self, series: Sequence[np.ndarray], horizon: int) -> np.ndarray:
        """A series shorter than a season is its own season; an empty one is 0."""
        found = np.zeros(len(series))
        for row, values in enumerate(series):
            last = values[-self.season :]
            if len(last):
                found[row] = last[np.arange(horizon) % len(last)].mean()
        return found


@dataclass(frozen=True)
class StatisticalModel:
    """ETS or ARIMA. A constant series goes on as it is; one of fewer than two seasons has no season."""

    kind: str
    """`ets` or `arima`"""
    season: int

    @property
    def name(self) -> str:
        return self.kind

    def forecast(self, series: Sequence[np.ndarray], horizon: int) -> np.ndarray:
        """Raises BadSetting where statsforecast is not installed."""
        seasonal, plain = self._model(self.season), self._model(1)
        found = np.zeros(len(series))
        for row, values in enumerate(series):
            if len(values) < FEW_STEPS or np.ptp(values) == 0:
                found[row] = values.mean() if len(values) else 0.0
                continue
            model = seasonal if len(values) > 2 * self.season else plain
            found[row] = model.forecast(np.ascontiguousarray(values, dtype=np.float64), horizon)["mean"].mean()
        return np.maximum(np.nan_to_num(found), 0.0)

    def _model(self, season: int):
        try:
            from statsforecast.models import AutoARIMA, AutoETS
        except ImportError as missing:
            raise BadSetting("ETS and ARIMA need statsforecast. Install it: pip install 'interest[forecasts]'.") from (
                missing
            )
        if self.kind == "ets":
            return AutoETS(season_length=season)
        return AutoARIMA(season_length=season, max_p=3, max_q=3, max_P=1, max_Q=1)


@dataclass
class GlobalLSTM:
    """Learns once, from all series; reads the last `window` steps of a series and says its next steps' mean."""

    horizon: int
    window: int = 56
    width: int = 32
    epochs: int = 20
    batch: int = 256
    learning_rate: float = 3e-3
    max_windows: int = 20_000
    seed: int = 7
    name: str = "global_lstm"
    losses: list[float] = field(default_factory=list)
    """mean absolute error of each epoch, in units of a window's mean"""
    network: nn.Module | None = field(default=None, repr=False)

    def fit(self, series: Sequence[np.ndarray]) -> GlobalLSTM:
        """Learn from every window of every series that is followed by `horizon` steps."""
        pairs = [
            (row, end) for row, values in enumerate(series)
            for end in range(1, len(values) - self.horizon + 1)
        ]
        rng = np.random.default_rng(self.seed)
        if len(pairs) > self.max_windows:
            pairs = [pairs[place] for place in np.sort(rng.choice(len(pairs), self.max_windows, replace=False))]
        torch.manual_seed(self.seed)
        self.network = _Network(self.width)
        if not pairs:
            return self
        inputs, scales = self._windows([series[row][:end] for row, end in pairs])
        goals = np.array([series[row][end : end + self.horizon].mean() for row, end in pairs]) / scales
        inputs, goals = torch.from_numpy(inputs), torch.from_numpy(goals.astype(np.float32))
        optimiser = torch.optim.AdamW(self.network.parameters(), self.learning_rate)
        for _ in range(self.epochs):
            total = 0.0
            for chosen in np.array_split(rng.permutation(len(pairs)), max(1, len(pairs) // self.batch)):
                loss = (self.network(inputs[chosen]) - goals[chosen]).abs().mean()
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
                optimiser.step()
                total += loss.item() * len(chosen)
            self.losses.append(total / len(pairs))
        return self

    @torch.no_grad()
    def forecast(self, series: Sequence[np.ndarray], horizon: int) -> np.ndarray:
        """Raises ValueError for another horizon than the one that was learned."""
        if horizon != self.horizon or self.network is None:
            raise ValueError(f"This network was fitted for {self.horizon} steps, not for {horizon}.")
        inputs, scales = self._windows(series)
        found = self.network(torch.from_numpy(inputs)).numpy()
        return np.maximum(found * scales, 0.0)

    def _windows(self, series: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """float32 [series, window, 2] (value in units of the window's mean; whether there is one), scales [series]."""
        inputs = np.zeros((len(series), self.window, 2), dtype=np.float32)
        scales = np.ones(len(series))
        for row, values in enumerate(series):
            last = values[-self.window :]
            if len(last):
                scales[row] = last.mean() or 1.0
                inputs[row, -len(last) :, 0] = last / scales[row]
                inputs[row, -len(last) :, 1] = 1.0
        return inputs, scales


class _Network(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.memory = nn.LSTM(2, width, batch_first=True)
        self.answer = nn.Linear(width, 1)
        nn.init.zeros_(self.answer.weight)
        nn.init.ones_(self.answer.bias)                 # At first: the window's mean goes on.

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[rows, window, 2] -> [rows]"""
        states, _ = self.memory(inputs)
        return self.answer(states[:, -1]).squeeze(1)
