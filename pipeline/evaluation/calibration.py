"""Whether a model's probabilities are what happens: of the items in its lists, how many are taken."""

from __future__ import annotations

import numpy as np

from pipeline.evaluation.metrics import calibration_error
from pipeline.evaluation.split import Questions
from pipeline.models.recommender import Recommender

CALIBRATED_DEPTH = 50
"""So much of each list is held against what users took; the hybrid's scale was fitted on as much."""


def list_calibration(recommender: Recommender, lists: np.ndarray, scores: np.ndarray, questions: Questions) -> float:
    """The expected calibration error of the items in the lists; NaN for a model whose scores are no probabilities.

    Args:
        lists: [users, depth] items, -1 where there is none, and `scores` of the same shape: what the model gave them.
    """
    to_probability = getattr(recommender, "probabilities", None)
    lists, scores = lists[:, :CALIBRATED_DEPTH], scores[:, :CALIBRATED_DEPTH]
    shown = lists >= 0
    found = None if to_probability is None else to_probability(scores[shown])
    if found is None:
        return float("nan")
    owners = np.arange(questions.num_users)
    width = int(max(lists.max(initial=0), questions.items.max(initial=0))) + 1
    taken = np.repeat(owners, questions.num_relevant) * width + questions.items
    return calibration_error(found, np.isin(owners[:, None] * width + lists, taken)[shown])
