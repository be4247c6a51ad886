"""The category mix of what comes, on a log of which it is known."""

import json

import numpy as np
import pytest

from pipeline.benchmark.forecasts import HEAD, ForecastPlan, forecast_tables
from pipeline.benchmark.questions import TIME, split_log

ITEMS = ["a,a thing,left", "b,another thing,right"]


class Knowing:
    """Says a mix, as the head of a trained model does, and remembers what it was given."""

    class config:
        categories = ("left", "right")
        period_days = 4.0

    def __init__(self, mix):
        self.mix, self.newest = mix, []

    def category_mix(self, histories):
        self.newest.append(int(histories.times.max()))
        return np.tile(np.array(self.mix, dtype=np.float32), (histories.num_users, 1))


@pytest.fixture
def split(log_of):
    """Two users who take `a` and `b` in turn for 36 days, and then, when the test begins, `b` only."""
    pytest.importorskip("statsforecast")
    rows = [
        f"{user},{'b' if day > 36 else 'ab'[day % 2]},2026-{3 + (day - 1) // 30:02d}-{(day - 1) % 30 + 1:02d}"
        for day in range(1, 49) for user in "xy"
    ]
    split = split_log(log_of(rows, ITEMS), TIME, 0.76)
    assert split.test_start.isoformat() == "2026-04-07T00:00:00+00:00"
    return split


def test_who_knows_what_comes_has_no_error_and_who_goes_on_as_before_has_one(split):
    model = Knowing([0.0, 1.0])
    found = forecast_tables(split, model, ForecastPlan(origins=2, users=5))
    assert found["horizon_days"] == 4
    assert [origin[:10] for origin in found["origins"]] == ["2026-04-07", "2026-04-15"]
    for question, rows in (("categories", 2 * 2), ("users", 2 * 2)):
        by_arm = {row["arm"]: row for row in found[question]}
        assert list(by_arm) == [HEAD, "long_run_mean", "seasonal_naive", "ets", "arima", "global_lstm"]
        head = by_arm[HEAD]
        assert head["kl"]["mean"] == pytest.approx(-np.log(0.995), abs=1e-6)
        assert head["mase"]["mean"] == pytest.approx(0.0, abs=1e-6)
        naive = by_arm["long_run_mean"]
        assert naive["kl"]["mean"] > 0.3 and naive["kl"]["head_change"] < -0.9
        assert head.get("series", head.get("users")) <= rows
    # The head read nothing after an origin.
    moments = [int(np.datetime64(origin[:10], "us").astype(int)) for origin in found["origins"]]
    assert len(model.newest) == 4
    assert all(newest < moment for newest, moment in zip(model.newest, moments * 2, strict=True))
    # At the first origin the weeks know half and half: KL(b only || half) with 1 % of evenness is log 2.
    once = forecast_tables(split, Knowing([0.5, 0.5]), ForecastPlan(origins=1, users=5))
    assert once["categories"][0]["kl"]["mean"] == pytest.approx(np.log(2))


def test_the_command_adds_the_tables(shop, run, tmp_path):
    pytest.importorskip("statsforecast")
    options = (
        "--seeds", "1", "--budget-cpu-seconds", "1", "--quantile", "0.6", "--forecasts", "--models", "popularity",
        "--set", "batches_an_epoch=2",
    )
    done = run(shop, tmp_path / "out", *options)
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out" / "benchmark.json").read_text())["forecasts"]
    assert found["number_of_categories"] == 2 and len(found["users"]) == 6
    assert "| category_mix_head |" in (tmp_path / "out" / "benchmark.md").read_text()
    refused = run(shop, tmp_path / "out", *options, "--split", "leave-one-out")
    assert refused.exit_code == 2 and "need --split time" in refused.output
