"""
Ranking metrics, one value per user. Averages, intervals and cohorts are made elsewhere, of these values.

`hits` is [users, ranks] bool: True when the item at that rank (0 = best) is relevant. `num_relevant` is [users] int:
the relevant items in the whole catalogue, ranked or not. A user without a relevant item has no score, not a bad one:
NaN. Lists come from the full catalogue; no metric here is sampled.
"""

from __future__ import annotations

import numpy as np

from pipeline.features.histories import FIRST_ITEM


def hit_rate_at_k(hits: np.ndarray, num_relevant: np.ndarray, k: int) -> np.ndarray:
    """1 where at least one of the first k items is relevant, else 0; [users], NaN without a relevant item."""
    _check(hits, k)
    return np.where(num_relevant > 0, hits[:, :k].any(axis=1), np.nan)


def recall_at_k(hits: np.ndarray, num_relevant: np.ndarray, k: int) -> np.ndarray:
    """Relevant items among the first k / all relevant items; [users] in [0, 1], NaN without a relevant item.

    Not capped: a user with more than k relevant items cannot reach 1.
    """
    _check(hits, k)
    return np.where(num_relevant > 0, hits[:, :k].sum(axis=1) / np.maximum(num_relevant, 1), np.nan)


def mrr_at_k(hits: np.ndarray, num_relevant: np.ndarray, k: int) -> np.ndarray:
    """1 / rank of the first relevant item (from 1), 0 when it is not among the first k; [users]."""
    _check(hits, k)
    top = hits[:, :k]
    return np.where(num_relevant > 0, np.where(top.any(axis=1), 1.0 / (top.argmax(axis=1) + 1.0), 0.0), np.nan)


def ndcg_at_k(hits: np.ndarray, num_relevant: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k with binary gains (Järvelin & Kekäläinen 2002); [users] in [0, 1], NaN without a relevant item.

    DCG = sum over ranks r < k of hit[r] / log2(r + 2), divided by the DCG of the best possible list. With one
    relevant item this is 1 / log2(rank + 2): the next-item NDCG.
    """
    _check(hits, k)
    discount = 1.0 / np.log2(np.arange(k) + 2.0)  # [k]
    dcg = (hits[:, :k] * discount).sum(axis=1)  # [users]
    ideal = discount.cumsum()  # [k]  ideal[n-1]: best DCG of n items
    best = ideal[np.clip(num_relevant, 1, k) - 1]  # [users]
    return np.where(num_relevant > 0, dcg / best, np.nan)


def coverage(lists: np.ndarray, num_items: int) -> float:
    """Share of the catalogue's real items that are in at least one list.

    Args:
        lists: [users, k] int, -1 where a list is shorter.
        num_items: length of the vocabulary, padding and the unknown item included.
    """
    shown = np.unique(lists)
    return float((shown >= FIRST_ITEM).sum() / max(num_items - FIRST_ITEM, 1))


def exposure_gini(lists: np.ndarray, num_items: int) -> float:
    """How unevenly the catalogue's real items are shown, 0 (all as often) to almost 1 (one item only); Gini 1912.

    G = sum_i (2 i - n - 1) x_i / (n sum x), x ascending, i from 1; NaN where nothing is shown.

    Args:
        lists: [users, k] int, -1 where a list is shorter.
        num_items: length of the vocabulary, padding and the unknown item included.
    """
    shown = np.sort(np.bincount(lists[lists >= FIRST_ITEM], minlength=num_items)[FIRST_ITEM:])
    if not shown.sum():
        return float("nan")
    n = len(shown)
    return float(((2 * np.arange(1, n + 1) - n - 1) * shown).sum() / (n * shown.sum()))


def popularity_exposure(lists: np.ndarray, head: np.ndarray) -> np.ndarray:
    """Share of the shown items that are in the popular head; [users] in [0, 1], NaN for an empty list.

    Args:
        lists: [users, k] int, -1 where a list is shorter.
        head: [num_items] bool, for example the head of `cohorts.item_cohorts`.
    """
    return _mean_of_shown(head[np.maximum(lists, 0)].astype(np.float64), lists >= 0)


def overlap(lists: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """Items that two lists share / length of the longer one; [users] in [0, 1], NaN where both are empty.

    With the previous version's lists this is stability: 1 where a new version shows the same items, in any order.

    Args:
        lists, previous: [users, k] int of the same users, without repeats, -1 where a list is shorter.
    """
    same = ((lists[:, :, None] == previous[:, None, :]) & (lists >= 0)[:, :, None]).sum(axis=(1, 2))
    longest = np.maximum((lists >= 0).sum(axis=1), (previous >= 0).sum(axis=1))
    return np.where(longest > 0, same / np.maximum(longest, 1), np.nan)


def novelty(lists: np.ndarray, item_counts: np.ndarray) -> np.ndarray:
    """Mean self-information of the shown items, -log2 p(item), in bits (Castells & Vargas 2011); [users].

    p(item) = (count + 1) / (all counts + items): an item without events is as new as can be, not infinitely new.

    Args:
        lists: [users, k] int, -1 where a list is shorter. NaN for an empty list.
        item_counts: [num_items] events of each item before the split.
    """
    real = item_counts[FIRST_ITEM:]
    bits = np.zeros(len(item_counts))
    bits[FIRST_ITEM:] = -np.log2((real + 1.0) / (real.sum() + len(real)))
    return _mean_of_shown(bits[np.maximum(lists, 0)], lists >= 0)


def diversity(lists: np.ndarray, item_vectors: np.ndarray) -> np.ndarray:
    """Intra-list diversity: 1 - mean cosine over the pairs of one list (Ziegler et al. 2005); [users] in [0, 2].

    Uses sum_{i != j} v_i v_j = |sum v|^2 - sum |v|^2, so no pair is formed. An item without a vector (all zeros)
    resembles nothing. NaN for a list of fewer than two items.

    Args:
        lists: [users, k] int, -1 where a list is shorter.
        item_vectors: [num_items, dim], for example text vectors or category shares.
    """
    unit = item_vectors / np.maximum(np.linalg.norm(item_vectors, axis=1, keepdims=True), 1e-12)
    shown = lists >= 0
    chosen = unit[np.maximum(lists, 0)] * shown[..., None]  # [users, k, dim]
    pairs = shown.sum(axis=1) * (shown.sum(axis=1) - 1.0)
    cosines = np.square(chosen.sum(axis=1)).sum(axis=1) - np.square(chosen).sum(axis=(1, 2))
    return np.where(pairs > 0, 1.0 - cosines / np.maximum(pairs, 1.0), np.nan)


def miscalibration(lists: np.ndarray, category_matrix: np.ndarray, known_mix: np.ndarray) -> np.ndarray:
    """How far a list's category mix q is from the user's own mix p: KL(p || .99 q + .01 p) in nats (Steck 2018).

    0 is perfect; [users], NaN for a user or a list without a category.

    Args:
        lists: [users, k] int, -1 where a list is shorter.
        category_matrix: [num_items, categories], rows sum to 1 (0 for an item without one).
        known_mix: [users, categories] of the events before the split, rows sum to 1 (0 for a user without one).
    """
    mix = (category_matrix[np.maximum(lists, 0)] * (lists >= 0)[..., None]).sum(axis=1)  # [users, categories]
    totals = mix.sum(axis=1)
    shown = mix / np.maximum(totals, 1e-12)[:, None]
    smoothed = 0.99 * shown + 0.01 * known_mix
    ratio = np.divide(known_mix, smoothed, out=np.ones_like(smoothed), where=known_mix > 0)
    divergence = np.maximum((known_mix * np.log(ratio)).sum(axis=1), 0.0)  # below 0 by rounding only
    return np.where((totals > 0) & (known_mix.sum(axis=1) > 0), divergence, np.nan)


def calibration_error(probabilities: np.ndarray, hits: np.ndarray, bins: int = 10) -> float:
    """How far probabilities are from what happens, on average (expected calibration error, Naeini et al. 2015).

    Args:
        probabilities: [n] in [0, 1].
        hits: [n] bool, whether it happened.
        bins: groups of like probabilities, as equal in number as can be; of each the mean probability is held against
            the share of hits.

    Returns:
        In [0, 1], 0 is best; NaN where nothing was predicted.
    """
    if not len(probabilities):
        return float("nan")
    order = np.argsort(probabilities, kind="stable")
    groups = np.array_split(order, min(bins, len(order)))
    return float(sum(abs(probabilities[part].mean() - hits[part].mean()) * len(part) for part in groups) / len(order))


def _mean_of_shown(values: np.ndarray, shown: np.ndarray) -> np.ndarray:
    count = shown.sum(axis=1)
    return np.where(count > 0, (values * shown).sum(axis=1) / np.maximum(count, 1), np.nan)


def _check(hits: np.ndarray, k: int) -> None:
    if not 1 <= k <= hits.shape[1]:
        raise ValueError(f"k must be between 1 and the {hits.shape[1]} ranks given, not {k}.")
