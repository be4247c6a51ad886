"""
Groups of users and of items, so that a mean cannot hide who loses. All are drawn from events before the test window.

Users by activity          new      fewer than 5 events
                           heavy    of the others, the third with the most events
                           light    the rest
Users by movement          returning  the last event is 28 days old or older when the test begins
(5 events or more)         drifting   of the others, the third whose category mix moved most from the older to the
                                      newer half of their events (total variation distance)
                           stable     the rest
Users by news              idle     no event in the 7 days before the test begins: a new version of a week has
                                    nothing new to say of them
Items by popularity        cold     no event
                           head     the fewest items that make half of all events
                           tail     the rest
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np

from pipeline.features.histories import Catalogue, Histories, microseconds_of

USER_COHORTS = ("all", "new", "light", "heavy", "stable", "drifting", "returning", "idle")
GROUPS = ("new", "light", "heavy", "stable", "drifting", "returning")
"""The cohorts that are groups of people: nobody of them is to be left behind."""
ITEM_COHORTS = ("head", "tail", "cold")

FEW_EVENTS = 5
AWAY_DAYS = 28
IDLE_DAYS = 7
TOP_THIRD = 2 / 3


def user_cohorts(known: Histories, catalogue: Catalogue, test_start: datetime) -> dict[str, np.ndarray]:
    """Membership of every user cohort, each [users] bool. `all` holds everyone."""
    lengths = known.lengths
    new = lengths < FEW_EVENTS
    heavy = _top_third(lengths.astype(np.float64), ~new)
    last = np.zeros(known.num_users, dtype=np.int64)
    np.maximum.at(last, known.owners, known.times)
    returning = ~new & (last <= microseconds_of(test_start - timedelta(days=AWAY_DAYS)))
    drifting = _top_third(category_drift(known, catalogue), ~new & ~returning)
    return {
        "all": np.ones(known.num_users, dtype=bool),
        "new": new,
        "light": ~new & ~heavy,
        "heavy": heavy,
        "stable": ~new & ~returning & ~drifting,
        "drifting": drifting,
        "returning": returning,
        "idle": last < microseconds_of(test_start - timedelta(days=IDLE_DAYS)),
    }


def item_cohorts(item_counts: np.ndarray) -> dict[str, np.ndarray]:
    """Membership of every item cohort, each [num_items] bool, from the events of each item before the split."""
    order = np.argsort(-item_counts, kind="stable")
    before = np.concatenate([[0.0], np.cumsum(item_counts[order], dtype=np.float64)[:-1]])
    head = np.zeros(len(item_counts), dtype=bool)
    head[order] = before < item_counts.sum() / 2
    cold = item_counts == 0
    return {"head": head & ~cold, "tail": ~head & ~cold, "cold": cold}


def category_mix(known: Histories, catalogue: Catalogue, chosen: np.ndarray | None = None) -> np.ndarray:
    """[users, categories]: shares of the categories in the (chosen) events; a user without any has zeros.

    Args:
        chosen: [events] bool, or None for all events.
    """
    matrix = catalogue.category_matrix().astype(np.float64)
    events = np.arange(known.num_events) if chosen is None else np.flatnonzero(chosen)
    items = known.items[events]
    owners = known.owners[events]
    mix = np.zeros((known.num_users, matrix.shape[1]))
    for column in range(matrix.shape[1]):
        mix[:, column] = np.bincount(owners, weights=matrix[items, column], minlength=known.num_users)
    return mix / np.maximum(mix.sum(axis=1, keepdims=True), 1e-12)


def category_drift(known: Histories, catalogue: Catalogue) -> np.ndarray:
    """[users] in [0, 1]: total variation distance between the category mixes of the older and the newer half."""
    within = np.arange(known.num_events) - known.offsets[known.owners]
    older = within < (known.lengths // 2)[known.owners]
    return np.abs(category_mix(known, catalogue, older) - category_mix(known, catalogue, ~older)).sum(axis=1) / 2


def _top_third(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """The members of `among` above the two-thirds quantile of their values; nobody when all are equal."""
    if not among.any():
        return among
    return among & (values > np.quantile(values[among], TOP_THIRD))
