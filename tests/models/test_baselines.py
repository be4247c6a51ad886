"""Baselines against their formulas, on a log of three users that fits on a napkin."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from pipeline.features.histories import FIRST_ITEM, Catalogue, Histories, microseconds_of
from pipeline.models.baselines import EASE, ImplicitALS, ItemKNN, NewestItemKNN, Popularity, Popularity30d

START = datetime(2026, 3, 1, tzinfo=UTC)
LONG_AGO, LATELY = START - timedelta(days=90), START - timedelta(days=3)
CATALOGUE = Catalogue.of([(item, item, []) for item in "abcde"])
SCRIPTS = ("abba", "bc", "abc")
"""items of three users; those of the last one are recent"""


@pytest.fixture
def known() -> Histories:
    items = CATALOGUE.index_of(list("".join(SCRIPTS)))
    times = [microseconds_of(LATELY if user == 2 else LONG_AGO) for user, script in enumerate(SCRIPTS) for _ in script]
    return Histories(
        np.array(["u0", "u1", "u2"], dtype=object),
        np.cumsum([0, *map(len, SCRIPTS)]).astype(np.int64),
        items,
        np.ones(len(items), dtype=np.int16),
        np.array(times, dtype=np.int64),
        ("view",),
    )


@pytest.fixture
def matrix() -> np.ndarray:
    """[users, real items] 0/1"""
    return np.array([[item in script for item in "abcde"] for script in SCRIPTS], dtype=np.float64)


def order(scores: np.ndarray) -> str:
    return "".join("abcde"[item] for item in np.argsort(-scores[FIRST_ITEM:], kind="stable"))


def test_popularity_counts_events_and_that_of_30_days_the_recent_ones_first(known):
    assert order(Popularity().fit(known, CATALOGUE, START).scores(known, START)[0]) == "bacde"
    recent = known.take([2])
    assert order(Popularity30d().fit(known, CATALOGUE, START).scores(recent, START)[0]) == "bacde"
    later = Popularity30d().fit(known, CATALOGUE, LONG_AGO + timedelta(days=1)).popularity[FIRST_ITEM:]
    assert later.argmax() == 1  # b; of everything after that day's window begins


def test_ease_is_its_closed_form_with_nothing_on_the_diagonal(known, matrix):
    seen = matrix[:, :3]  # d and e have no event
    inverse = np.linalg.inv(seen.T @ seen + 2.0 * np.eye(3))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    model = EASE(regularisation=2.0).fit(known, CATALOGUE, START)
    scores = model.scores(known, START)[:, FIRST_ITEM:]
    np.testing.assert_allclose(scores[:, :3], seen @ weights, atol=1e-5)
    assert (scores[:, 3:] < scores[:, :3].min()).all()


def test_ease_of_a_catalogue_that_is_too_large_keeps_the_popular_items(known):
    model = EASE(regularisation=2.0, max_items=2).fit(known, CATALOGUE, START)
    assert [CATALOGUE.item_ids[item] for item in model.active] == ["a", "b"]


def test_neighbours_are_shrunk_cosines(known, matrix):
    model = ItemKNN(shrinkage=1.0).fit(known, CATALOGUE, START)
    found = model.towards.toarray().T[FIRST_ITEM:, FIRST_ITEM:]
    # a and b: both had by u0 and u2; a by 2 users, b by 3.
    assert found[0, 1] == pytest.approx(2 / (np.sqrt(6) + 1))
    np.testing.assert_array_equal(np.diag(found), 0)
    only = ItemKNN(neighbours=1, shrinkage=1.0).fit(known, CATALOGUE, START).towards.toarray().T
    # a and c keep b alone; b keeps both, because they are equally near and no order may decide.
    assert np.count_nonzero(only, axis=1)[FIRST_ITEM:].tolist() == [1, 2, 1, 0, 0]


def test_a_user_is_near_what_is_near_each_of_their_items(known, matrix):
    model = ItemKNN(shrinkage=1.0).fit(known, CATALOGUE, START)
    expected = matrix @ model.towards.toarray()[FIRST_ITEM:, FIRST_ITEM:]
    np.testing.assert_allclose(model.scores(known, START)[:, FIRST_ITEM:], expected, rtol=1e-6)


@pytest.mark.parametrize("model", [ItemKNN, EASE, lambda: ImplicitALS(factors=2)])
def test_a_user_without_a_known_item_gets_popularity(model, known):
    nobody = known.take([0]).before(LONG_AGO)
    assert order(model().fit(known, CATALOGUE, START).scores(nobody, START)[0]) == "bacde"


def test_neighbours_that_were_saved_score_as_before(known):
    model = ItemKNN(neighbours=2).fit(known, CATALOGUE, START)
    again = ItemKNN()
    assert not again.restore({}) and again.restore(model.state())
    np.testing.assert_array_equal(again.scores(known, START), model.scores(known, START))


def test_every_slice_of_the_neighbours_is_what_the_formula_gives_for_all_items_at_once(monkeypatch):
    rng = np.random.default_rng(2)
    owners, items = np.sort(rng.integers(0, 50, 600)), rng.integers(FIRST_ITEM, 30, 600).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=50))])
    users = np.array([f"u{user:02d}" for user in range(50)], dtype=object)
    log = Histories(users, offsets, items, np.ones(600, np.int16), np.arange(600, dtype=np.int64), ("view",))
    had = np.zeros((50, 40))                                        # ten items have no event
    had[owners, items] = 1.0
    counts = had.sum(axis=0)
    near = had.T @ had / (np.sqrt(np.outer(counts, counts)) + 3.0)
    np.fill_diagonal(near, 0.0)
    near[near < np.sort(near, axis=1)[:, [-8]]] = 0.0
    monkeypatch.setattr("pipeline.models.baselines.ITEMS_AT_ONCE", 7)
    catalogue = Catalogue.of([(f"i{item:02d}", "", []) for item in range(38)])
    model = ItemKNN(neighbours=8, shrinkage=3.0).fit(log, catalogue, START)
    np.testing.assert_allclose(model.towards.toarray().T, near, rtol=1e-5)


def test_the_neighbours_of_the_newest_items_count_most(known):
    model = ItemKNN(shrinkage=1.0).fit(known, CATALOGUE, START)
    near = model.towards.toarray()
    a, b, c = CATALOGUE.index_of(["a", "b", "c"])
    found = NewestItemKNN(model, half_life=1.0).scores(known, START)
    # u0 had a, b, b, a, the newest last: a counts 1 + 1/8, b 1/2 + 1/4.
    np.testing.assert_allclose(found[0], np.where(np.arange(len(near)) < FIRST_ITEM, -np.inf,
                                                  1.125 * near[a] + 0.75 * near[b]), rtol=1e-6)
    np.testing.assert_allclose(found[1, FIRST_ITEM:], (0.5 * near[b] + near[c])[FIRST_ITEM:], rtol=1e-6)
