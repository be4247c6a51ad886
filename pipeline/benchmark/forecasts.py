"""
Does the model know better than a time series what comes? Its category-mix head beside the arms of models/forecasts.py.

Two questions are asked at every origin, about the days that follow it:

    categories   which share of everybody's events each category gets; series are days, a season is a week
    users        which mix of categories a user's events have, of users who come back; series are the weeks in which
                 the user did something, a season is four of them

Origins lie in the test part of a split by time. The head and the global LSTM learn before the first one and read on;
ETS, ARIMA and the naive arms read and fit everything before each origin. The head's forecast for everybody is the mean
of its forecasts for the users of the days before the origin, weighted by their events.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from pipeline.benchmark.questions import TIME, BenchmarkSplit
from pipeline.errors import BadSetting
from pipeline.evaluation.bootstrap import interval_of, paired_difference, resampled_means
from pipeline.evaluation.forecasts import mix_divergence, naive_scale, rolling_origins, scaled_error
from pipeline.evaluation.markdown import change_cell, markdown_table, mean_cell
from pipeline.features.histories import EPOCH, Histories, microseconds_of
from pipeline.models.forecasts import Forecaster, GlobalLSTM, LongRunMean, SeasonalNaive, StatisticalModel
from pipeline.models.interest_evolution import InterestEvolutionModel

HEAD = "category_mix_head"
DAY = 86_400_000_000
WEEK_DAYS = 7
SERIES_DAYS = 182
"""What a series of days reaches back: forms of ARIMA are tried on every one of them."""
SERIES_WEEKS = 52
SEASON_WEEKS = 4
LEARNED_USERS = 1000
"""Users whose series the network learns from."""
SAMPLES = 1000


@dataclass(frozen=True)
class ForecastPlan:
    """How much is asked."""

    origins: int = 3
    users: int = 30
    """of each origin, drawn by the seed: ETS and ARIMA are fitted for every user and category"""
    seed: int = 7


def check_forecastable(split: BenchmarkSplit) -> None:
    """Raises BadSetting where there is no mix to forecast, or no time in which to."""
    if split.kind != TIME:
        raise BadSetting("--forecasts are made at moments in time: they need --split time.")
    if len(split.catalogue.category_names) < 2:
        raise BadSetting("--forecasts need items of at least two categories. Give --items and map their categories.")


def forecast_tables(split: BenchmarkSplit, model: InterestEvolutionModel, plan: ForecastPlan) -> dict:
    """`{"categories": rows, "users": rows, ...}`, JSON-serialisable but for NaN; a row for each arm.

    Args:
        model: trained on nothing after the test begins.
    """
    check_forecastable(split)
    matrix = split.catalogue.category_matrix().astype(np.float64)
    matrix = matrix[:, [split.catalogue.category_names.index(name) for name in model.config.categories]]
    everything = split.known.followed_by(split.test)
    end = EPOCH + timedelta(days=int(everything.times.max()) // DAY + 1)
    origins, days = rolling_origins(split.test_start, end, model.config.period_days, plan.origins)
    asked = _Asked(everything, matrix, days, model, plan)
    weeks = -(-days // WEEK_DAYS)
    of_days = [
        LongRunMean(), SeasonalNaive(WEEK_DAYS), StatisticalModel("ets", WEEK_DAYS),
        StatisticalModel("arima", WEEK_DAYS), GlobalLSTM(days, 56, seed=plan.seed).fit([*asked.daily(origins[0]).T]),
    ]
    before = everything.before(origins[0]).with_events()
    learned = np.sort(np.random.default_rng(plan.seed).permutation(before.num_users)[:LEARNED_USERS])
    varied = [
        column for weekly in asked.weekly(before.take(learned), origins[0]) for column in weekly.T if np.ptp(column) > 0
    ]
    of_weeks = [
        LongRunMean(), SeasonalNaive(SEASON_WEEKS), StatisticalModel("ets", 1), StatisticalModel("arima", 1),
        GlobalLSTM(weeks, 12, seed=plan.seed).fit(varied),
    ]
    return {
        "origins": [origin.isoformat() for origin in origins],
        "horizon_days": days,
        "categories": _rows([asked.everybody(origin, of_days) for origin in origins], "series"),
        "users": _rows([asked.some_users(origin, of_weeks, weeks) for origin in origins], "users"),
        "number_of_categories": matrix.shape[1],
    }


@dataclass(frozen=True)
class _Asked:
    """What happened, and what each arm says will happen."""

    everything: Histories
    matrix: np.ndarray
    """[num_items, categories]"""
    days: int
    model: InterestEvolutionModel
    plan: ForecastPlan

    def everybody(self, origin: datetime, arms: Sequence[Forecaster]) -> dict[str, dict[str, np.ndarray]]:
        """arm → `mase` [categories], `kl` [1], `seconds` [1]"""
        daily = self.daily(origin)
        blocks = daily[len(daily) % self.days :].reshape(-1, self.days, daily.shape[1]).sum(axis=1)
        scale = np.array([naive_scale(column) for column in _shares(blocks).T])
        actual = _shares(self._between(origin).sum(axis=0, keepdims=True))

        def errors(forecast: np.ndarray) -> dict[str, np.ndarray]:
            return {"mase": scaled_error(actual[0], forecast[0], scale), "kl": mix_divergence(actual, forecast)}

        found = {}
        for arm in arms:
            began = time.process_time()
            forecast = _shares(arm.forecast([*daily.T], self.days)[None])
            found[arm.name] = errors(forecast) | {"seconds": np.array([time.process_time() - began])}
        began = time.process_time()
        recent = self.everything.between(origin - timedelta(days=self.days), origin).lengths
        users = np.flatnonzero(recent) if recent.any() else np.arange(self.everything.num_users)
        mixes = self.model.category_mix(self.everything.before(origin).take(users))
        weights = recent[users] if recent.any() else np.ones(len(users))
        found[HEAD] = errors(_shares(weights[None] @ mixes)) | {"seconds": np.array([time.process_time() - began])}
        return found

    def some_users(self, origin: datetime, arms: Sequence[Forecaster], weeks: int) -> dict[str, dict[str, np.ndarray]]:
        """arm → `mase` [users], `kl` [users], `seconds` [1]"""
        before = self.everything.before(origin)
        future = self._between(origin)
        back = np.flatnonzero((before.lengths > 0) & (future.sum(axis=1) > 0))
        drawn = np.random.default_rng([self.plan.seed, microseconds_of(origin) // DAY]).permutation(back)
        users = np.sort(drawn[: self.plan.users])
        actual = _shares(future[users])
        weekly = self.weekly(before.take(users), origin)
        scale = np.array([naive_scale(mixes) for mixes in weekly])
        found = {}
        for arm in arms:
            began = time.process_time()
            flat = arm.forecast([column for mixes in weekly for column in mixes.T], weeks)
            forecast = _shares(flat.reshape(len(users), -1))
            found[arm.name] = {
                "mase": scaled_error(actual, forecast, scale), "kl": mix_divergence(actual, forecast),
                "seconds": np.array([time.process_time() - began]),
            }
        began = time.process_time()
        forecast = self.model.category_mix(before.take(users)).astype(np.float64)
        found[HEAD] = {
            "mase": scaled_error(actual, forecast, scale), "kl": mix_divergence(actual, forecast),
            "seconds": np.array([time.process_time() - began]),
        }
        return found

    def daily(self, origin: datetime) -> np.ndarray:
        """[days, categories]: everybody's events of the last days before a midnight, oldest first."""
        known = self.everything.before(origin)
        ages = (microseconds_of(origin) - 1 - known.times) // DAY
        days = min(int(ages.max(initial=0)) + 1, SERIES_DAYS)
        counts = np.zeros((days, self.matrix.shape[1]))
        kept = ages < days
        np.add.at(counts, days - 1 - ages[kept], self.matrix[known.items[kept]])
        return counts

    def weekly(self, known: Histories, origin: datetime) -> list[np.ndarray]:
        """For each user [weeks, categories]: the mixes of the weeks before the origin in which there was an event."""
        ages = (microseconds_of(origin) - 1 - known.times) // (WEEK_DAYS * DAY)
        found = []
        for user in range(known.num_users):
            own = slice(known.offsets[user], known.offsets[user + 1])
            weeks, place = np.unique(-ages[own], return_inverse=True)
            counts = np.zeros((len(weeks), self.matrix.shape[1]))
            np.add.at(counts, place, self.matrix[known.items[own]])
            found.append(_shares(counts[counts.sum(axis=1) > 0][-SERIES_WEEKS:]))
        return found

    def _between(self, origin: datetime) -> np.ndarray:
        """[users, categories]: events of the days after the origin."""
        coming = self.everything.between(origin, origin + timedelta(days=self.days))
        counts = np.zeros((coming.num_users, self.matrix.shape[1]))
        np.add.at(counts, coming.owners, self.matrix[coming.items])
        return counts


def _shares(counts: np.ndarray) -> np.ndarray:
    """Rows that sum to 1; a row without mass stays 0."""
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)


def _rows(found: Sequence[Mapping[str, Mapping[str, np.ndarray]]], counted: str) -> list[dict]:
    """Origins together: means with intervals, and how the head compares with each arm on the same rows."""
    joined = {
        arm: {name: np.concatenate([of[arm][name] for of in found]) for name in ("mase", "kl", "seconds")}
        for arm in (HEAD, *(name for name in found[0] if name != HEAD))
    }
    rows = []
    for arm, values in joined.items():
        row: dict = {"arm": arm, counted: int(np.isfinite(values["mase"]).sum()),
                     "cpu_seconds": float(values["seconds"].sum())}
        for name in ("mase", "kl"):
            means = resampled_means(values[name][:, None], SAMPLES, 7)[:, 0]
            own = interval_of(values[name], means, 0.95)
            _, change = paired_difference(joined[HEAD][name], values[name], SAMPLES, 7, 0.95)
            row[name] = {"mean": own.mean, "low": own.low, "high": own.high, "head_change": change.mean,
                         "head_change_low": change.low, "head_change_high": change.high}
        rows.append(row)
    return rows


def forecast_lines(found: Mapping) -> list[str]:
    """The tables in Markdown."""
    lines = [
        "", f"Category mix of the next {found['horizon_days']} days, {found['number_of_categories']} categories, at "
        f"{len(found['origins'])} origins ({', '.join(origin[:10] for origin in found['origins'])}). Lower is better; "
        "MASE 1 is the error of the naive forecast on what was known; KL in nats. `head` is the change that the "
        "model's head makes to the arm on the same rows, with its paired interval.",
    ]
    for name, counted in (("categories", "series"), ("users", "users")):
        head = [name, "rows", "MASE", "head", "KL", "head", "CPU s to forecast"]
        lines += ["", *markdown_table(head, ([row["arm"], *_cells(row, counted)] for row in found[name]))]
    return lines


def _cells(row: Mapping, counted: str) -> list[str]:
    """What follows the arm's name; the head is not compared with itself."""
    said = [str(row[counted])]
    for found in (row["mase"], row["kl"]):
        is_compared = row["arm"] != HEAD and found["head_change"] is not None
        said += [mean_cell(found, digits=3), change_cell(found, "head_change") if is_compared else ""]
    return [*said, f"{row['cpu_seconds']:.1f}"]
