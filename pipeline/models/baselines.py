"""
What a user would pick instead of a learned model of interest: popularity, neighbours, and two linear classics.

All read a user's items from the histories that are given to `scores`, so a user never seen in `fit` is served like
any other; a user without a known item gets popularity. Event types are not told apart: a repeated event counts as a
stronger one where the method knows strength (ALS), else once.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np
import torch
from scipy import sparse
from threadpoolctl import threadpool_limits

from pipeline.features.histories import FIRST_ITEM, Catalogue, Histories, microseconds_of
from pipeline.models.recommender import USERS_AT_ONCE, mask_special_items

ITEMS_AT_ONCE = 1024


def interactions(histories: Histories, num_items: int, counts: bool = False) -> sparse.csr_matrix:
    """float32 [users, num_items]: 1 where the user had the item, or how often; padding and unknown items left out."""
    real = histories.items >= FIRST_ITEM
    matrix = sparse.csr_matrix(
        (np.ones(int(real.sum()), dtype=np.float32), (histories.owners[real], histories.items[real])),
        shape=(histories.num_users, num_items),
    )
    matrix.sum_duplicates()
    if not counts:
        matrix.data[:] = 1.0
    return matrix


def log_popularity(histories: Histories, num_items: int, since: datetime | None = None) -> np.ndarray:
    """float32 [num_items]: log(1 + events), of all events or of those from `since` on."""
    items = histories.items if since is None else histories.items[histories.times >= microseconds_of(since)]
    return np.log1p(np.bincount(items, minlength=num_items)).astype(np.float32)


def with_fallback(scores: np.ndarray, matrix: sparse.csr_matrix, popularity: np.ndarray) -> np.ndarray:
    """Scores [users, num_items] with the rows of users without any known item replaced by popularity [num_items]."""
    nobody = np.diff(matrix.indptr) == 0
    scores[nobody] = popularity
    return mask_special_items(scores)


class Popularity:
    """The items with the most events, the same for everyone."""

    name = "popularity"

    def fit(self, histories: Histories, catalogue: Catalogue, as_of: datetime) -> Popularity:
        self.popularity = log_popularity(histories, catalogue.num_items)
        return self

    def scores(self, histories: Histories, as_of: datetime) -> np.ndarray:
        return mask_special_items(np.tile(self.popularity, (histories.num_users, 1)))


class Popularity30d(Popularity):
    """The items with the most events of the last 30 days; older events only order what those leave equal.

    Under a split by time it is a hard baseline wherever demand has a season or a release date.
    """

    name = "popularity_30d"
    days = 30

    def fit(self, histories: Histories, catalogue: Catalogue, as_of: datetime) -> Popularity30d:
        recent = log_popularity(histories, catalogue.num_items, as_of - timedelta(days=self.days))
        ever = log_popularity(histories, catalogue.num_items)
        self.popularity = recent + 1e-3 * ever / max(float(ever.max(initial=0.0)), 1.0)
        return self


class ItemKNN:
    """Cosine neighbours of the user's items (Sarwar et al. 2001), shrunk so that rare pairs do not win by chance.

    similarity(i, j) = both / (sqrt(users_i * users_j) + shrinkage); the `neighbours` nearest items of each are kept.
    """

    name = "item_knn"

    def __init__(self, neighbours: int = 200, shrinkage: float = 10.0) -> None:
        self.neighbours, self.shrinkage = neighbours, shrinkage

    def fit(self, histories: Histories, catalogue: Catalogue, as_of: datetime) -> ItemKNN:
        matrix = interactions(histories, catalogue.num_items)
        users = np.asarray(matrix.sum(axis=0)).ravel()  # [num_items]
        columns = matrix.tocsc()
        parts = []
        for first in range(0, catalogue.num_items, ITEMS_AT_ONCE):  # in slices: memory is bounded
            rows = np.arange(first, min(first + ITEMS_AT_ONCE, catalogue.num_items))
            both = (columns[:, rows].T @ matrix).tocsr()
            own = np.repeat(rows, np.diff(both.indptr))
            both.data /= np.sqrt(users[own]) * np.sqrt(users[both.indices]) + self.shrinkage
            both.data[both.indices == own] = 0.0
            for start, end in itertools.pairwise(both.indptr):
                if end - start > self.neighbours:
                    near = both.data[start:end]
                    near[near < np.partition(near, -self.neighbours)[-self.neighbours]] = 0.0  # equals all stay
            both.eliminate_zeros()
            parts.append(both)
        self.towards = sparse.vstack(parts, format="csr").T.tocsr()
        self.popularity = log_popularity(histories, catalogue.num_items)
        return self

    def scores(self, histories: Histories, as_of: datetime) -> np.ndarray:
        return self.near(interactions(histories, len(self.popularity)))

    def near(self, matrix: sparse.csr_matrix) -> np.ndarray:
        """Scores of users who have items with the weights of `matrix` [users, num_items].

        A user's row is the weighted sum of the rows of their items: gathered, and added up where they become dense.
        """
        found = np.zeros(matrix.shape, dtype=np.float32)
        for first in range(0, len(found), USERS_AT_ONCE):
            own = matrix[first : first + USERS_AT_ONCE]
            near = self.towards[own.indices]
            near.data *= np.repeat(own.data, np.diff(near.indptr))
            rows = sparse.csr_matrix((near.data, near.indices, near.indptr[own.indptr]), shape=own.shape)
            rows.toarray(out=found[first : first + USERS_AT_ONCE])
        return with_fallback(found, matrix, self.popularity)

    def state(self) -> dict[str, np.ndarray]:
        """What was fitted, as arrays by name."""
        arrays = {"data": self.towards.data, "indices": self.towards.indices, "indptr": self.towards.indptr}
        return {f"{self.name}/{name}": value for name, value in (arrays | {"popularity": self.popularity}).items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> bool:
        """Take what `state` gave; whether it is there."""
        if f"{self.name}/data" not in state:
            return False
        data, indices, indptr, self.popularity = (
            state[f"{self.name}/{name}"] for name in ("data", "indices", "indptr", "popularity")
        )
        self.towards = sparse.csr_matrix((data, indices, indptr), shape=(len(self.popularity),) * 2)
        return True


class NewestItemKNN:
    """The neighbours of what a user had last: an item that is `half_life` events old counts half.

    It reads the neighbours of an `ItemKNN`, which is fitted on its own.
    """

    name = "newest_item_knn"

    def __init__(self, neighbours: ItemKNN, half_life: float = 2.0) -> None:
        self.neighbours, self.half_life = neighbours, half_life

    def fit(self, histories: Histories, catalogue: Catalogue, as_of: datetime) -> NewestItemKNN:
        """The neighbours were fitted before; nothing happens."""
        return self

    def scores(self, histories: Histories, as_of: datetime) -> np.ndarray:
        age = histories.offsets[1:][histories.owners] - 1 - np.arange(histories.num_events)  # 0: the newest
        real = histories.items >= FIRST_ITEM
        matrix = sparse.csr_matrix(
            (np.exp2(-age[real] / self.half_life).astype(np.float32), (histories.owners[real], histories.items[real])),
            shape=(histories.num_users, len(self.neighbours.popularity)),
        )
        return self.neighbours.near(matrix)


class EASE:
    """The closed-form linear autoencoder without a hidden layer (Steck 2019).

    B = -P / diag(P) off the diagonal, 0 on it, with P = (XᵀX + regularisation * I)⁻¹; scores = X B. The inverse is
    taken by Cholesky in torch (its cost grows with items³: 15 s at 12,000 items on 2 cores); of a larger catalogue
    only the `max_items` most popular items take part, the others are ordered by popularity below them.
    """

    name = "ease"

    def __init__(self, regularisation: float = 200.0, max_items: int = 15_000) -> None:
        self.regularisation, self.max_items = regularisation, max_items

    def fit(self, histories: Histories, catalogue: Catalogue, as_of: datetime) -> EASE:
        matrix = interactions(histories, catalogue.num_items)
        users = np.asarray(matrix.sum(axis=0)).ravel()
        active = np.flatnonzero(users > 0)
        self.active = np.sort(active[np.argsort(-users[active], kind="stable")][: self.max_items])
        chosen = matrix[:, self.active]
        gram = torch.from_numpy(np.asarray((chosen.T @ chosen).todense(), dtype=np.float32))
        gram.diagonal().add_(self.regularisation)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram)) if len(self.active) else gram
        weights = inverse / -inverse.diagonal()  # column j divided by -P[j, j]
        weights.fill_diagonal_(0.0)
        self.weights = weights.numpy()
        self.popularity = log_popularity(histories, catalogue.num_items)
        return self

    def scores(self, histories: Histories, as_of: datetime) -> np.ndarray:
        matrix = interactions(histories, len(self.popularity))
        # Items without a weight rank below every item with one, by popularity among themselves.
        below = self.popularity / max(float(self.popularity.max(initial=0.0)), 1.0) - 100.0
        found = np.tile(below.astype(np.float32), (histories.num_users, 1))
        found[:, self.active] = matrix[:, self.active] @ self.weights
        return with_fallback(found, matrix, self.popularity)


class ImplicitALS:
    """Implicit-feedback matrix factorisation by alternating least squares (Hu, Koren, Volinsky 2008).

    The `implicit` library; one thread and a seed, so that two fits give the same factors. Users are folded in from
    their histories: x = (YᵀY + Yᵀ(C - I)Y + λI)⁻¹ Yᵀ C p, as the library does it.
    """

    name = "implicit_als"

    def __init__(
        self, factors: int = 48, regularisation: float = 0.05, alpha: float = 5.0, iterations: int = 12, seed: int = 7
    ) -> None:
        self.factors, self.regularisation, self.alpha = factors, regularisation, alpha
        self.iterations, self.seed = iterations, seed

    def fit(self, histories: Histories, catalogue: Catalogue, as_of: datetime) -> ImplicitALS:
        from implicit.cpu.als import AlternatingLeastSquares

        self.popularity = log_popularity(histories, catalogue.num_items)
        self.model = AlternatingLeastSquares(
            factors=self.factors,
            regularization=self.regularisation,
            alpha=self.alpha,
            iterations=self.iterations,
            num_threads=1,
            random_state=self.seed,
        )
        with threadpool_limits(1, user_api="blas"):  # the library's own advice; also what makes it deterministic
            self.model.fit(interactions(histories, catalogue.num_items, counts=True), show_progress=False)
        return self

    def scores(self, histories: Histories, as_of: datetime) -> np.ndarray:
        matrix = interactions(histories, len(self.popularity), counts=True)
        if not histories.num_users:
            return np.zeros((0, len(self.popularity)), dtype=np.float32)
        with threadpool_limits(1, user_api="blas"):
            users = self.model.recalculate_user(np.arange(histories.num_users), matrix)
        found = (np.asarray(users) @ self.model.item_factors.T).astype(np.float32)
        return with_fallback(found, matrix, self.popularity)


def baselines(seed: int = 7) -> list:
    """One of each, unfitted, in the order of the table."""
    return [Popularity(), Popularity30d(), ItemKNN(), EASE(), ImplicitALS(seed=seed)]
