"""
How good forecasts are: errors of one value a series, and the rolling origins at which they are made.

An origin is a moment; a forecast made there reads events before it and is held against the mix of the days after it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np

SMOOTHING = 0.01


def scaled_error(actual: np.ndarray, forecast: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """|actual - forecast| / scale (Hyndman & Koehler 2006), [series]; its mean is MASE.

    1 is as bad as the naive forecast was on what was known. NaN where `scale` is 0 or NaN: nothing ever changed.

    Args:
        actual, forecast: [series] or [series, parts]; errors of parts are averaged first.
        scale: [series], see `naive_scale`.
    """
    error = np.abs(np.asarray(actual, dtype=np.float64) - forecast)
    error = error if error.ndim == 1 else error.mean(axis=1)
    usable = np.isfinite(scale) & (np.asarray(scale) > 0)
    return np.divide(error, scale, out=np.full(error.shape, np.nan), where=usable)


def naive_scale(values: np.ndarray, season: int = 1) -> float:
    """Mean |y[t] - y[t - season]| over the known steps [steps] or [steps, parts]; NaN with too few of them."""
    if len(values) <= season:
        return float("nan")
    return float(np.abs(values[season:] - values[:-season]).mean())


def mix_divergence(actual: np.ndarray, forecast: np.ndarray) -> np.ndarray:
    """KL(p || .99 q + .01 uniform) in nats, [rows]; 0 is perfect, NaN for a row of `actual` without any mass.

    Args:
        actual: p, [rows, categories] of shares.
        forecast: q, the same shape. A row without mass is read as uniform.
    """
    categories = actual.shape[1]
    mass = forecast.sum(axis=1, keepdims=True)
    even = np.full(forecast.shape, 1.0 / categories)
    shares = np.divide(forecast, mass, out=even.copy(), where=mass > 0)
    smoothed = (1 - SMOOTHING) * shares + SMOOTHING * even
    ratio = np.divide(actual, smoothed, out=np.ones(smoothed.shape), where=actual > 0)
    return np.where(actual.sum(axis=1) > 0, (actual * np.log(ratio)).sum(axis=1), np.nan)


def rolling_origins(first: datetime, end: datetime, horizon_days: float, count: int) -> tuple[list[datetime], int]:
    """Up to `count` midnights from `first` on, evenly spread, each followed by a whole horizon before `end`.

    Returns:
        (origins, days): the horizon in whole days, cut to half of what there is, so that there is more than one origin.
    """
    begin = first.replace(hour=0, minute=0, second=0, microsecond=0)
    begin = begin if begin == first else begin + timedelta(days=1)
    available = (end - begin) // timedelta(days=1)
    days = max(1, min(int(horizon_days), available // 2))
    spare = max(available - days, 0)
    steps = sorted({round(spare * place / max(count - 1, 1)) for place in range(count)})
    return [begin + timedelta(days=step) for step in steps], days
