"""What only the collaborative filter does: interest, warm start, files."""

import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import torch

from pipeline.features.histories import FIRST_ITEM, Catalogue, Histories, microseconds_of
from pipeline.models.baselines import Popularity
from pipeline.models.collaborative_filter import CollaborativeFilter, CollaborativeFilterConfig
from pipeline.models.factor_model import softmax_loss
from pipeline.models.hybrid import Hybrid
from pipeline.models.interest_vectors import InterestTable, WithInterest
from pipeline.models.recommender import top_k

START = datetime(2026, 3, 1, tzinfo=UTC)
VALIDATION = START - timedelta(days=10)
SMALL = CollaborativeFilterConfig(factors=8, max_epochs=25, batch_size=64, learning_rate=0.005, horizon_days=30.0)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Matrices as small as these are slowed down by more threads, most of all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def knows_the_circle(histories: Histories) -> np.ndarray:
    """The interest of every user: which circle, and a direction that all share."""
    circles = np.array([int(user[1:]) % 4 for user in histories.user_ids], dtype=int)
    return (np.eye(4)[circles] + 3.0).astype(np.float32)


@pytest.fixture(scope="module")
def tuned(village):
    histories, catalogue = village
    model = CollaborativeFilter(replace(SMALL, include_seen=True), space_id="space-1", interest_version="4")
    return model.fit(histories, catalogue, START, validation_start=VALIDATION, encode=knows_the_circle)


def circle_mass(model, histories, lti) -> float:
    """How much better the items of the user's own circle score than those of the other circles."""
    scores = model.scores(histories, START, lti)[:, FIRST_ITEM + 20 :].reshape(len(lti), 4, 10).mean(axis=2)
    own = np.array([int(user[1:]) % 4 for user in histories.user_ids])
    return float((scores[np.arange(len(lti)), own] - scores.mean(axis=1)).mean())


def test_the_validation_loss_falls_where_the_history_tells_and_the_best_epoch_is_kept(village):
    histories, catalogue = village
    model = CollaborativeFilter(replace(SMALL, include_seen=True))
    model.fit(histories.take(np.arange(60)), catalogue, START, validation_start=START - timedelta(days=25))
    curve = model.curves["history"]
    assert min(curve) < curve[0] - 0.05 and len(curve) > 2


def test_the_interest_phase_begins_where_the_history_phase_was_best_and_improves_on_it(tuned):
    history, interest = tuned.curves["history"], tuned.curves["interest"]
    assert interest[0] == pytest.approx(min(history), rel=1e-6)
    assert min(interest) < interest[0] - 0.05


def test_the_interest_of_the_user_helps_and_that_of_another_user_does_not(tuned, village):
    strangers = village[0].before(START - timedelta(days=9999))  # nothing known but the interest
    own = knows_the_circle(strangers)
    assert tuned.interest_scale > 0
    assert circle_mass(tuned, strangers, own) > 1.0
    assert circle_mass(tuned, strangers, own[::-1].copy()) < 0  # u00 gets the vector of u79
    assert circle_mass(tuned, strangers, np.zeros_like(own)) == pytest.approx(0, abs=1e-3)


def test_no_vector_and_a_vector_of_zeros_are_the_same(tuned, village):
    histories = village[0].take([0, 5])
    without = tuned.scores(histories, START)
    np.testing.assert_array_equal(without, tuned.scores(histories, START, np.zeros((2, 4), dtype=np.float32)))


def test_a_vector_of_another_shape_is_refused_with_the_space(tuned, village):
    with pytest.raises(ValueError, match="space-1"):
        tuned.scores(village[0].take([0, 5]), START, np.zeros((2, 5), dtype=np.float32))


def test_nothing_after_as_of_and_no_answer_of_the_validation_reaches_the_weights(village):
    histories, catalogue = village
    config = replace(SMALL, max_epochs=3, patience=99, learn_the_window=False)
    before = CollaborativeFilter(config).fit(histories.before(START), catalogue, START, validation_start=VALIDATION)
    current = (histories.times >= int(VALIDATION.timestamp()) * 1_000_000).astype(bool)
    items = histories.items.copy()
    items[current] = np.random.default_rng(0).permutation(items[current])
    changed = CollaborativeFilter(config).fit(
        replace(histories, items=items), catalogue, START, validation_start=VALIDATION
    )
    # Both trained three epochs; the validation chooses among them, so the curves differ and one epoch's weights agree.
    assert before.curves != changed.curves
    if np.argmin(before.curves["history"]) == np.argmin(changed.curves["history"]):
        assert torch.equal(before.model.item_factors, changed.model.item_factors)


class InTheirSpace:
    """Encodes users and items alike: whoever cares about a circle points to its items."""

    def __call__(self, histories: Histories) -> np.ndarray:
        return knows_the_circle(histories)

    def item_vectors(self) -> np.ndarray:
        vectors = np.zeros((FIRST_ITEM + 60, 4), dtype=np.float32)
        for item in range(20, 60):
            vectors[FIRST_ITEM + item, (item - 20) // 10] = 1.0
        return vectors


@pytest.fixture(scope="module")
def in_space(village):
    histories, catalogue = village
    model = CollaborativeFilter(replace(SMALL, include_seen=True), space_id="space-2")
    return model.fit(histories, catalogue, START, validation_start=VALIDATION, encode=InTheirSpace())


def test_interest_that_points_to_items_helps_by_itself_and_another_users_does_not(in_space, village, tmp_path):
    strangers = village[0].before(START - timedelta(days=9999))
    own = knows_the_circle(strangers)
    assert in_space.interest_scale == 0.0 and in_space.interest_strength != (0.0, 0.0)
    assert circle_mass(in_space, strangers, own) > 0.2
    assert circle_mass(in_space, strangers, own[::-1].copy()) < 0
    without = in_space.scores(strangers, START)
    np.testing.assert_array_equal(without, in_space.scores(strangers, START, np.zeros_like(own)))
    in_space.save(tmp_path)
    loaded = CollaborativeFilter.load(tmp_path)
    histories = village[0]
    lti = knows_the_circle(histories)
    np.testing.assert_array_equal(loaded.scores(histories, START, lti), in_space.scores(histories, START, lti))


def test_interest_that_helps_nobody_it_was_not_fitted_on_stays_silent(village):
    histories, catalogue = village

    class KnowsNothing(InTheirSpace):
        def __call__(self, histories: Histories) -> np.ndarray:
            noise = [np.random.default_rng(int(user[1:])).standard_normal(4) for user in histories.user_ids]
            return np.array(noise, dtype=np.float32)

    model = CollaborativeFilter(replace(SMALL, include_seen=True))
    model.fit(histories, catalogue, START, validation_start=VALIDATION, encode=KnowsNothing())
    assert model.interest_strength == (0.0, 0.0)


def test_the_window_is_learned_when_all_is_chosen_and_what_was_chosen_is_kept(village):
    histories, catalogue = village
    late = FIRST_ITEM + 59
    inside = histories.times >= int(VALIDATION.timestamp()) * 1_000_000
    histories = replace(histories, items=np.where(inside, late, np.minimum(histories.items, late - 1)).astype(np.int32))
    config = replace(SMALL, include_seen=True, max_epochs=4)
    model = CollaborativeFilter(config).fit(histories, catalogue, START, validation_start=VALIDATION)
    early = model.before_validation
    assert early is not model and early.before_validation is early
    assert model.model.item_factors[late].norm() > 10 * early.model.item_factors[late].norm()
    only = CollaborativeFilter(replace(config, learn_the_window=False))
    only.fit(histories, catalogue, START, validation_start=VALIDATION)
    np.testing.assert_array_equal(early.scores(histories, START), only.scores(histories, START))
    assert only.before_validation is only


def test_saved_and_loaded_it_gives_the_same_scores_from_json_and_safetensors_only(tuned, village, tmp_path):
    histories = village[0]
    tuned.save(tmp_path / "model")
    assert sorted(path.suffix for path in (tmp_path / "model").iterdir()) == [".json", ".safetensors"]
    loaded = CollaborativeFilter.load(tmp_path / "model")
    lti = knows_the_circle(histories)
    np.testing.assert_array_equal(loaded.scores(histories, START, lti), tuned.scores(histories, START, lti))
    assert (loaded.space_id, loaded.interest_version, loaded.config) == ("space-1", "4", tuned.config)
    assert loaded.catalogue == tuned.catalogue and loaded.curves == tuned.curves


def test_no_user_is_in_the_files(tuned, tmp_path):
    tuned.save(tmp_path)
    for path in tmp_path.iterdir():
        assert b"u07" not in path.read_bytes()


def test_a_warm_start_begins_better_than_a_cold_one_and_takes_new_items(village):
    histories, catalogue = village
    last = CollaborativeFilter(replace(SMALL, include_seen=True, learn_the_window=False))
    last.fit(histories, catalogue, START, validation_start=VALIDATION)
    wider = Catalogue.of(
        [*zip(catalogue.item_ids[2:], catalogue.titles[2:], catalogue.categories[2:], strict=True), ("a0", "new", [])]
    )
    moved = replace(histories, items=wider.index_of(catalogue.item_ids)[histories.items])
    config = replace(SMALL, include_seen=True, max_epochs=2)
    cold = CollaborativeFilter(config).fit(moved, wider, START, validation_start=VALIDATION)
    warm = CollaborativeFilter(config).fit(moved, wider, START, validation_start=VALIDATION, previous=last)
    assert warm.curves["history"][0] < cold.curves["history"][0]
    assert np.isfinite(warm.scores(moved, START)[:, FIRST_ITEM:]).all()


def test_a_version_that_has_learned_from_the_window_is_no_start_for_what_is_chosen_on_it(village):
    histories, catalogue = village
    config = replace(SMALL, include_seen=True, max_epochs=2)
    cold = CollaborativeFilter(config).fit(histories, catalogue, START, validation_start=VALIDATION)
    assert cold.learned_until == microseconds_of(START)
    warm = CollaborativeFilter(config)
    warm.fit(histories, catalogue, START, validation_start=VALIDATION, previous=cold)
    assert warm.curves == cold.curves
    assert not np.array_equal(warm.scores(histories, START), cold.scores(histories, START))


def test_an_item_that_the_last_version_knew_starts_from_exactly_its_factors(tuned, village):
    histories, catalogue = village
    config = replace(SMALL, include_seen=True, max_seconds=1e-9)  # no epoch is begun
    warm = CollaborativeFilter(config).fit(histories, catalogue, START, validation_start=VALIDATION, previous=tuned)
    assert torch.equal(warm.model.item_factors[FIRST_ITEM:], tuned.model.item_factors[FIRST_ITEM:])
    assert torch.equal(warm.model.history_factors[FIRST_ITEM:], tuned.model.history_factors[FIRST_ITEM:])


def test_text_gives_an_item_without_events_the_factors_of_its_like(village):
    histories, catalogue = village
    rows = list(zip(catalogue.item_ids, catalogue.titles, catalogue.categories, strict=True))[FIRST_ITEM:]
    wider = Catalogue.of([*rows, ("i60", "like circle 0", []), ("i61", "like circle 1", [])])
    vectors = np.zeros((wider.num_items, 5), dtype=np.float32)
    for item in range(60):
        vectors[FIRST_ITEM + item, (item - 20) // 10 if item >= 20 else 4] = 1.0
    vectors[-2, 0] = vectors[-1, 1] = 1.0
    model = CollaborativeFilter(replace(SMALL, include_seen=True, learning_rate=0.02))
    model.fit(histories, wider, START, validation_start=START, item_vectors=vectors)  # no validation: trained blindly
    scores = model.scores(histories, START)
    first, second = np.arange(80) % 4 == 0, np.arange(80) % 4 == 1
    preference = scores[:, -2] - scores[:, -1]
    assert preference[first].mean() > preference[second].mean() + 0.1


def test_popularity_can_be_told_of_a_later_day_without_a_new_fit(tuned, village):
    histories, _ = village
    later = replace(histories, items=np.full_like(histories.items, FIRST_ITEM + 7))
    before = tuned.scores(histories, START)
    try:
        after = tuned.observe(later, START).scores(histories, START)
    finally:
        tuned.observe(histories, START)
    change = after[:, FIRST_ITEM:] - before[:, FIRST_ITEM:]
    weights = tuned.model.trend_weights.detach().numpy()
    assert change[0, 7] == pytest.approx(float(change[-1, 7]), rel=1e-3) and np.abs(change[0, 7]) > 0.1 * weights.max()
    np.testing.assert_array_equal(tuned.scores(histories, START), before)


CHANGES = {
    "factors": 6, "start_size": 0.3, "context_length": 3, "horizon_days": 1.0, "max_targets": 1, "include_seen": True,
    "cuts_per_user": 1, "interest_examples": 20, "interest_dropout": 0.9, "history_dropout": 0.9, "batch_size": 16,
    "learning_rate": 0.1, "weight_decay": 5.0, "max_epochs": 1, "patience": 1, "max_seconds": 1e-9,
    "full_softmax_items": 5, "negatives": 10, "validation_days": 20.0, "seed": 8, "learn_the_window": False,
    "new_days_only": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def outcome_of(village):
    """Curves and scores of a configuration; each is trained once."""
    histories, catalogue = village
    known: dict[tuple, tuple] = {}

    def train(config: CollaborativeFilterConfig, encode=knows_the_circle, last: timedelta | None = None) -> tuple:
        if (config, encode, last) not in known:
            model, previous = CollaborativeFilter(config), None
            if last is not None:
                cutoff = START - last
                previous = CollaborativeFilter(config).fit(histories.before(cutoff), catalogue, cutoff)
            model.fit(histories, catalogue, START, encode=encode, previous=previous)
            scores = model.scores(histories, START, encode and encode(histories))
            known[config, encode, last] = (model.curves, scores.tobytes())
        return known[config, encode, last]

    return train


@pytest.mark.parametrize("name", [field.name for field in fields(CollaborativeFilterConfig)])
def test_every_field_of_the_configuration_changes_the_model(name, outcome_of):
    base = replace(SMALL, max_epochs=3, validation_days=10.0)
    if name == "negatives":
        base = replace(base, full_softmax_items=5)
    if name == "patience":
        base = replace(base, learning_rate=0.2, max_epochs=8)
    # A gate is learned with the factors that it has.
    encode = None if name in ("learn_the_window", "new_days_only") else knows_the_circle
    last = timedelta(days=7) if name == "new_days_only" else None
    assert outcome_of(base, encode, last) != outcome_of(replace(base, **{name: CHANGES[name]}), encode, last)


def test_a_log_that_is_younger_than_the_validation_window_still_gives_a_model(village):
    histories, catalogue = village
    model = CollaborativeFilter(SMALL)
    model.fit(histories.take([0]), catalogue, START, validation_start=START - timedelta(days=99))
    assert np.isfinite(model.scores(histories, START)[:, FIRST_ITEM:]).all()


def test_the_loss_is_the_cross_entropy_with_several_answers():
    scores = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    normaliser = scores.logsumexp(dim=1)
    owners, targets = torch.tensor([0, 0, 1]), torch.tensor([0, 2, 1])
    shares = torch.tensor([0.25, 0.75, 1.0])
    found = softmax_loss(scores[owners, targets], shares, owners, normaliser, 2)
    log_share = scores.log_softmax(dim=1)
    assert found == pytest.approx(float(-(0.25 * log_share[0, 0] + 0.75 * log_share[0, 2] + log_share[1, 1]) / 2))


def test_the_hybrid_trusts_the_part_that_was_right_and_survives_its_file(tuned, village, tmp_path):
    histories, catalogue = village
    train, current = histories.before(VALIDATION), histories.between(VALIDATION, START)

    class Noise:
        name = "noise"

        def fit(self, histories, catalogue, as_of):
            return self

        def scores(self, histories, as_of):
            users = [int(user[1:]) for user in histories.user_ids]
            found = np.stack([np.random.default_rng(u).standard_normal(catalogue.num_items) for u in users])
            found[:, :FIRST_ITEM] = -np.inf
            return found.astype(np.float32)

    interest = InterestTable(histories.user_ids, knows_the_circle(histories))
    parts = {
        "filter": WithInterest(tuned, interest, "filter"),
        "popularity": Popularity().fit(train, catalogue, VALIDATION),
        "noise": Noise(),
    }
    hybrid = Hybrid(parts).fit_weights(train, current, VALIDATION, include_seen=True)
    assert hybrid.weights["filter"] > 0.5 and hybrid.weights["noise"] < 0.2 * hybrid.weights["filter"]
    again = Hybrid(parts).fit_weights(train, current, VALIDATION, include_seen=True)
    assert again.weights == hybrid.weights
    hybrid.save(tmp_path)
    assert json.loads((tmp_path / "hybrid.json").read_text())["weights"] == hybrid.weights
    loaded = Hybrid.load(tmp_path, parts)
    np.testing.assert_array_equal(loaded.scores(train, START), hybrid.scores(train, START))
    with pytest.raises(ValueError, match="Weights are for"):
        Hybrid.load(tmp_path, {"filter": parts["filter"]})
    younger = Hybrid.load(tmp_path, parts | {"a later idea": Noise()})      # a release of before there was that part
    np.testing.assert_allclose(younger.scores(train, START), hybrid.scores(train, START))
    lists, _ = top_k(hybrid.scores(train, VALIDATION), 5)
    assert (lists >= FIRST_ITEM).all()


def test_the_hybrid_puts_an_item_that_nobody_has_had_where_new_items_go(village):
    """Whatever was new in the window was taken at once; the parts, which count, put it last."""
    histories, catalogue = village
    fresh = FIRST_ITEM + 59
    inside = histories.times >= int(VALIDATION.timestamp()) * 1_000_000
    items = np.where(inside & (np.arange(len(inside)) % 2 == 0), fresh, np.minimum(histories.items, fresh - 1))
    histories = replace(histories, items=items.astype(np.int32))
    train, current = histories.before(VALIDATION), histories.between(VALIDATION, START)
    hybrid = Hybrid({"popularity": Popularity().fit(train, catalogue, VALIDATION)})
    hybrid.observe(train, catalogue.num_items)
    assert fresh not in top_k(hybrid.scores(train, VALIDATION), 10)[0]
    hybrid.fit_weights(train, current, VALIDATION, include_seen=True)
    assert hybrid.fresh["constant"] > 0
    assert (top_k(hybrid.scores(train, VALIDATION), 10)[0] == fresh).any(axis=1).all()
    hybrid.observe(histories, catalogue.num_items)                      # it has been had: it is scored like the others
    assert fresh not in top_k(hybrid.scores(train, VALIDATION), 10)[0]


def test_the_hybrid_asks_users_at_their_own_moments_and_tells_its_parts_the_earliest_of_those_it_asks(village):
    histories, catalogue = village
    train, current = histories.before(VALIDATION), histories.between(VALIDATION, START)
    told, asked = [], []

    class Clock(Popularity):
        name = "clock"

        def scores(self, histories, as_of):
            asked.extend((int(newest), as_of) for newest in histories.times[histories.offsets[1:] - 1])
            assert told[-1] == as_of
            return super().scores(histories, as_of)

    Hybrid({"clock": Clock().fit(train, catalogue, VALIDATION)}).fit_weights(
        train, current, None, include_seen=True, observe=told.append
    )
    assert all(microseconds_of(moment) <= newest for newest, moment in asked)
    assert any(microseconds_of(moment) == newest for newest, moment in asked)


def test_the_hybrid_adds_its_parts_by_weight(tuned, village):
    histories, catalogue = village
    parts = {"filter": tuned, "popularity": Popularity().fit(histories, catalogue, START)}
    for name, part in parts.items():
        alone = Hybrid(parts, dict.fromkeys(parts, 0.0) | {name: 2.0})
        lists, _ = top_k(alone.scores(histories, START), 10)
        np.testing.assert_array_equal(lists, top_k(part.scores(histories, START), 10)[0])
