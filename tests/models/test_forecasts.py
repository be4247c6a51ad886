"""The time-series arms on series of which the future is known."""

import numpy as np
import pytest

from pipeline.models.forecasts import GlobalLSTM, SeasonalNaive, StatisticalModel

RISING = np.arange(40.0)


def weekly(weeks: int) -> np.ndarray:
    return np.tile([1.0, 2.0, 3.0, 4.0, 5.0, 16.0, 18.0], weeks)


def test_the_seasonal_naive_repeats_the_last_season():
    naive = SeasonalNaive(season=3)
    series = [np.array([9.0, 1.0, 2.0, 6.0]), np.array([4.0]), np.array([])]
    np.testing.assert_allclose(naive.forecast(series, 2), [1.5, 4.0, 0.0])
    np.testing.assert_allclose(naive.forecast(series, 4), [(1 + 2 + 6 + 1) / 4, 4.0, 0.0])


@pytest.mark.parametrize("kind", ["ets", "arima"])
def test_ets_and_arima_go_on_with_a_trend_and_with_a_season(kind):
    pytest.importorskip("statsforecast")
    arm = StatisticalModel(kind, season=7)
    noise = np.random.default_rng(2).normal(0, 0.1, 56)
    trend, season, constant, short = arm.forecast(
        [RISING, weekly(8) + noise, np.full(20, 3.0), np.array([1.0, 3.0])], horizon=5
    )
    assert trend == pytest.approx(42.0, abs=0.5)                       # 40, 41, 42, 43, 44
    assert season == pytest.approx((1 + 2 + 3 + 4 + 5) / 5, abs=0.5)   # the first five days, not the mean of 7
    assert (constant, short) == (3.0, 2.0)


def test_the_global_lstm_learns_a_pattern_that_all_series_share():
    rng = np.random.default_rng(3)
    wave = [scale * (2 + np.sin(np.arange(60) * np.pi / 6 + phase)) for scale, phase in rng.uniform(1, 9, (30, 2))]
    arm = GlobalLSTM(horizon=3, window=24, epochs=8).fit([values[:50] for values in wave])
    assert arm.losses[-1] < arm.losses[0] / 2
    error = np.abs(arm.forecast([values[:50] for values in wave], 3) - [values[50:53].mean() for values in wave])
    naive = [abs(values[38:50].mean() - values[50:53].mean()) for values in wave]
    assert error.mean() < np.mean(naive) / 2
    with pytest.raises(ValueError, match="fitted for 3 steps"):
        arm.forecast(wave, 4)


def test_the_global_lstm_reads_nothing_but_the_series_it_is_given():
    arm = GlobalLSTM(horizon=3, window=12, epochs=1).fit([RISING, weekly(4)])
    once = arm.forecast([RISING], 3)
    assert once[0] == pytest.approx(arm.forecast([weekly(4), RISING], 3)[1])
    assert GlobalLSTM(horizon=3).fit([np.ones(2)]).forecast([np.full(5, 7.0)], 3) == pytest.approx(7.0, abs=0.5)
