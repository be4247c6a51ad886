"""Errors of forecasts against values that were worked out by hand."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from pipeline.evaluation.forecasts import mix_divergence, naive_scale, rolling_origins, scaled_error

DAY = datetime(2026, 3, 1, tzinfo=UTC)


def test_the_scale_is_the_mean_error_of_the_naive_forecast_on_what_was_known():
    known = np.array([1.0, 3.0, 2.0, 6.0])
    assert naive_scale(known) == pytest.approx((2 + 1 + 4) / 3)
    assert naive_scale(known, season=2) == pytest.approx((1 + 3) / 2)
    assert naive_scale(np.array([[0.0, 1.0], [1.0, 0.0]])) == pytest.approx(1.0)
    assert np.isnan(naive_scale(known, season=4))


def test_mase_is_the_mean_of_errors_in_units_of_the_scale():
    actual, forecast, scale = np.array([4.0, 1.0, 5.0]), np.array([2.0, 1.0, 4.0]), np.array([4.0, 2.0, 0.0])
    errors = scaled_error(actual, forecast, scale)
    np.testing.assert_allclose(errors, [0.5, 0.0, np.nan])
    assert np.nanmean(errors) == pytest.approx(0.25)
    mixes = scaled_error(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]]), np.array([0.25]))
    np.testing.assert_allclose(mixes, [2.0])


def test_the_divergence_of_a_mix_is_kl_against_a_smoothed_forecast():
    actual = np.array([[0.5, 0.5], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    forecast = np.array([[2.0, 2.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    expected = [0.0, np.log(1 / 0.995), np.log(2.0), np.nan]
    np.testing.assert_allclose(mix_divergence(actual, forecast), expected, atol=1e-12)
    wrong = mix_divergence(np.array([[0.75, 0.25]]), np.array([[0.0, 1.0]]))
    np.testing.assert_allclose(wrong, 0.75 * np.log(0.75 / 0.005) + 0.25 * np.log(0.25 / 0.995))


def test_every_origin_is_followed_by_a_whole_horizon():
    origins, days = rolling_origins(DAY + timedelta(hours=1), DAY + timedelta(days=51), 28, 3)
    assert days == 25
    assert origins == [DAY + timedelta(days=1), DAY + timedelta(days=13), DAY + timedelta(days=26)]
    origins, days = rolling_origins(DAY, DAY + timedelta(days=100), 28, 2)
    assert (origins, days) == ([DAY, DAY + timedelta(days=72)], 28)
    assert rolling_origins(DAY, DAY + timedelta(days=1), 28, 3) == ([DAY], 1)
