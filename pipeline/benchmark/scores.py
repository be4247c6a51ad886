"""Means of many models over the same users, with intervals that take in users and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.evaluation.bootstrap import resampled_means

CONFIDENCE = 0.95


def score_table(
    values: Mapping[str, Mapping[str, np.ndarray]], names: Sequence[str], reference: str, samples: int, seed: int
) -> list[dict]:
    """A row for each model: of every metric `mean, low, high` and the paired `change` to the reference.

    Every resample draws users and seeds with replacement, both the same for all models: an interval holds what another
    set of users and another start of the training would have changed. Of few seeds a bootstrap knows only what they
    show, so three of them widen it by less than they should. A model without chance has one seed and varies by users.

    Args:
        values: model → metric → [users] or [seeds, users], finite, of the same users in the same order.

    `change` is (mean - reference) / reference, with `change_low` and `change_high` from the same resamples.
    """
    stacked = {(model, name): np.atleast_2d(values[model][name]) for model in values for name in names}
    means = _resampled(stacked, samples, seed)
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    rows = []
    for model in values:
        row: dict = {"model": model}
        for name in names:
            own, other = means[model, name], means[reference, name]
            low, high = np.quantile(own, tails)
            found = {"mean": float(stacked[model, name].mean()), "low": float(low), "high": float(high)}
            base = float(stacked[reference, name].mean())
            if base > 0 and (other > 0).all():
                changes = np.quantile(own / other - 1, tails)
                found |= {"change": found["mean"] / base - 1, "change_low": float(changes[0]),
                          "change_high": float(changes[1])}
            row[name] = found
        rows.append(row)
    return rows


def _resampled(
    stacked: Mapping[tuple[str, str], np.ndarray], samples: int, seed: int
) -> dict[tuple[str, str], np.ndarray]:
    """Of each [seeds, users] the means [samples] over drawn users and drawn seeds."""
    means = resampled_means(np.concatenate([*stacked.values()]).T, samples, seed)
    most = max(len(found) for found in stacked.values())
    drawn = np.random.default_rng([seed, most]).integers(most, size=(samples, most))
    found, first = {}, 0
    for column, of_seeds in stacked.items():
        own = means[:, first : first + len(of_seeds)]
        first += len(of_seeds)
        found[column] = (np.take_along_axis(own, drawn, axis=1) if len(of_seeds) == most else own).mean(axis=1)
    return found
