"""
One behavioural suite that every recommender passes. A new one is added to `MODELS` and to nothing else.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from pipeline.features.histories import FIRST_ITEM, UNKNOWN, Catalogue, Histories
from pipeline.models.baselines import EASE, ImplicitALS, ItemKNN, Popularity, Popularity30d
from pipeline.models.collaborative_filter import CollaborativeFilter, CollaborativeFilterConfig
from pipeline.models.content import Content
from pipeline.models.hybrid import Hybrid
from pipeline.models.recommender import InCatalogue, Recommender, top_k

START = datetime(2026, 3, 1, tzinfo=UTC)
SMALL = CollaborativeFilterConfig(factors=8, max_epochs=8, batch_size=64)

MODELS = {
    "popularity": Popularity,
    "popularity_30d": Popularity30d,
    "item_knn": ItemKNN,
    "ease": lambda: EASE(regularisation=20.0),
    "implicit_als": lambda: ImplicitALS(factors=8, iterations=8),
    "collaborative_filter": lambda: CollaborativeFilter(SMALL),
    "collaborative_filter_sampled": lambda: CollaborativeFilter(replace(SMALL, full_softmax_items=10, negatives=32)),
    "content": Content,
    "hybrid": lambda: Hybrid({"ease": EASE(20.0), "content": Content(), "popularity": Popularity()}),
}
PERSONAL = [name for name in MODELS if not name.startswith("popularity")]


@pytest.fixture(scope="module")
def town():
    """90 users in six circles of ten items; a user stays in the circle, eight items before START, two after it."""
    rng = np.random.default_rng(11)
    rows = []
    for user in range(90):
        for place, item in enumerate(rng.permutation(10) + 10 * (user % 6)):
            moment = START + timedelta(days=3 * (place - 8) + 1, hours=user % 24)
            rows.append((f"{user}-{place}", f"u{user:03d}", f"i{item:03d}", "view", moment))
    columns = ["event_id", "user_id", "item_id", "event_type", "event_time"]
    frame = pl.DataFrame(rows, schema=columns, orient="row").cast({"event_time": pl.Datetime("us", "UTC")})
    catalogue = Catalogue.of([(f"i{item:03d}", f"item {item}", [f"circle {item // 10}"]) for item in range(60)])
    histories = Histories.from_events(frame, catalogue, ("view",))
    return histories.before(START), histories.between(START, START + timedelta(days=30)), catalogue


@pytest.fixture(scope="module", params=MODELS)
def fitted(request, town):
    known, _, catalogue = town
    return request.param, MODELS[request.param]().fit(known, catalogue, START)


def circle_share(lists: np.ndarray) -> float:
    """Share of the recommended items that belong to the user's circle."""
    return float(((lists - FIRST_ITEM) // 10 == (np.arange(len(lists)) % 6)[:, None]).mean())


def test_it_speaks_the_common_protocol(fitted):
    _, model = fitted
    assert isinstance(model, Recommender) and model.name


def test_scores_are_finite_but_for_padding_and_the_unknown_item(fitted, town):
    known, _, catalogue = town
    scores = fitted[1].scores(known, START)
    assert scores.shape == (known.num_users, catalogue.num_items) and scores.dtype == np.float32
    assert np.isneginf(scores[:, :FIRST_ITEM]).all() and np.isfinite(scores[:, FIRST_ITEM:]).all()


def test_two_fits_give_the_same_scores(fitted, town):
    known, _, catalogue = town
    again = MODELS[fitted[0]]().fit(known, catalogue, START)
    np.testing.assert_array_equal(fitted[1].scores(known, START), again.scores(known, START))


def test_a_users_scores_do_not_depend_on_who_else_is_asked(fitted, town):
    known = town[0]
    together = fitted[1].scores(known, START)[5:8]
    np.testing.assert_allclose(fitted[1].scores(known.take([5, 6, 7]), START), together, rtol=1e-4, atol=1e-5)


def test_scoring_changes_neither_the_histories_nor_later_answers(fitted, town):
    known = town[0]
    items = known.items.copy()
    first = fitted[1].scores(known, START)
    expected = first.copy()
    first[:] = 0.0  # the caller may write into what it was given
    np.testing.assert_array_equal(fitted[1].scores(known, START), expected)
    np.testing.assert_array_equal(known.items, items)


def test_a_user_never_seen_in_fit_is_served_from_the_history(fitted, town):
    known, _, catalogue = town
    rest = MODELS[fitted[0]]().fit(known.take(np.arange(12, known.num_users)), catalogue, START)
    strangers = known.take(np.arange(12))
    lists, _ = top_k(rest.scores(strangers, START), 2, strangers)
    if fitted[0] in PERSONAL:
        assert circle_share(lists) > 0.8


def test_a_user_without_a_known_item_gets_an_order_and_no_nan(fitted, town):
    known = town[0]
    nobody = known.take([0, 1]).before(START - timedelta(days=9999))
    stranger = replace(known.take([0]), items=np.full(8, UNKNOWN, dtype=np.int32))
    for histories in (nobody, stranger):
        scores = fitted[1].scores(histories, START)
        assert np.isfinite(scores[:, FIRST_ITEM:]).all() and np.isneginf(scores[:, :FIRST_ITEM]).all()


def test_no_user_at_all_gives_an_empty_matrix(fitted, town):
    known, _, catalogue = town
    assert fitted[1].scores(known.take([]), START).shape == (0, catalogue.num_items)


def test_a_planted_structure_is_found(fitted, town):
    known, future, _ = town
    if fitted[0] not in PERSONAL:
        pytest.skip("popularity knows no person")
    lists, _ = top_k(fitted[1].scores(known, START), 2, known)
    wanted = future.items.reshape(-1, 2)
    assert circle_share(lists) > 0.9
    assert np.mean([len(set(a) & set(b)) for a, b in zip(lists, wanted, strict=True)]) > 1.8  # of 2; random: 0.08


def test_an_item_without_an_event_is_scored_too(fitted, town):
    known, _, catalogue = town
    wider = Catalogue.of([*zip(catalogue.item_ids[2:], catalogue.titles[2:], catalogue.categories[2:], strict=True),
                          ("i999", "a new item", ["circle 0"])])
    model = MODELS[fitted[0]]().fit(known, wider, START)
    scores = model.scores(known, START)
    assert np.isfinite(scores[:, -1]).all()
    if fitted[0] == "content":
        assert (scores[0, -1] > scores[0, FIRST_ITEM + 10 : -1]).all()  # user 0 is of circle 0


def test_the_scores_can_be_asked_for_in_another_catalogue(fitted, town):
    known, _, catalogue = town
    fewer = Catalogue.of(
        [*list(zip(catalogue.item_ids, catalogue.titles, catalogue.categories, strict=True))[7:], ("zz", "new", [])]
    )
    index = fewer.index_of(catalogue.item_ids)
    translated = InCatalogue(fitted[1], catalogue, fewer, "champion")
    asked = replace(known, items=index[known.items])
    scores = translated.scores(asked, START)
    assert scores.shape == (known.num_users, fewer.num_items) and translated.name == "champion"
    assert np.isfinite(scores[:, FIRST_ITEM:]).all() and (scores[:, -1] < scores[:, FIRST_ITEM:-1].min(axis=1)).all()
    unaffected = (asked.items != UNKNOWN).reshape(-1, 8).all(axis=1)
    own = fitted[1].scores(known, START)
    np.testing.assert_allclose(scores[unaffected, FIRST_ITEM:-1], own[unaffected, 7:], rtol=1e-5, atol=1e-6)
