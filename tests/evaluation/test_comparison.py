"""Several models on the same questions, and the placebos."""

import json
from datetime import timedelta

import numpy as np
import pytest

from pipeline.evaluation.compare import compare, own_moments
from pipeline.evaluation.comparison import Comparison
from pipeline.evaluation.placebo import Instead, hybrid_placebo, of_another_user, placebo_table, staleness_table
from pipeline.features.histories import Histories, microseconds_of
from pipeline.models.hybrid import Hybrid
from pipeline.models.interest_vectors import InterestTable


@pytest.fixture
def asked(histories_of, start):
    histories = histories_of({"u1": "ab|cd", "u2": "ab|h", "u3": "abcde|f"})
    return histories.before(start), histories.between(start, start + timedelta(days=1))


def rows(*orders: str) -> dict[str, np.ndarray]:
    """Scores that put the items of each user in the order given; the others follow far behind."""
    table = {}
    for user, order in enumerate(orders, start=1):
        scores = np.full(10, -5.0) - np.arange(10) / 100
        for place, item in enumerate(order):
            scores["abcdefgh".index(item) + 2] = -float(place)
        table[f"u{user}"] = scores
    return table


@pytest.fixture
def comparison(asked, catalogue, start, scripted):
    models = {
        "good": scripted(rows("cd", "h", "f")),
        "poor": scripted(rows("efc", "cdh", "g")),  # u1: c third; u2: h third; u3: f second
    }
    return compare(models, *asked, catalogue, start, ks=(1, 3), reference="poor", samples=200)


def test_values_are_those_worked_out_by_hand(comparison):
    np.testing.assert_allclose(comparison.of("good", "ndcg@3"), [1, 1, 1])
    np.testing.assert_allclose(comparison.of("poor", "ndcg@3"), [0.5, 0.5, 1 / np.log2(3)], rtol=1e-6)
    np.testing.assert_allclose(comparison.of("poor", "mrr@3"), [1 / 3, 1 / 3, 1 / 2], rtol=1e-6)
    np.testing.assert_allclose(comparison.of("good", "recall@1"), [0.5, 1, 1])
    np.testing.assert_allclose(comparison.of("poor", "recall@3"), [0.5, 1, 1])
    np.testing.assert_allclose(comparison.of("poor", "hr@1"), [0, 0, 0])


def test_seen_items_are_neither_shown_nor_hit(asked, catalogue, start, scripted):
    models = {"seen_first": scripted(rows("abc", "abh", "abcdef"))}
    found = compare(models, *asked, catalogue, start, ks=(1,), samples=100)
    np.testing.assert_allclose(found.of("seen_first", "hr@1"), [1, 1, 1])


def test_item_cohorts_ask_for_their_own_items_only(comparison):
    # Of the known events a and b are the head; c, d, e the tail; f, g, h are cold.
    assert np.isnan(comparison.of("good", "recall@3", "head")).all()
    np.testing.assert_allclose(comparison.of("good", "recall@3", "tail"), [1, np.nan, np.nan])
    np.testing.assert_allclose(comparison.of("poor", "ndcg@3", "cold"), [np.nan, 0.5, 1 / np.log2(3)], rtol=1e-6)


def test_user_cohorts_leave_the_others_without_a_value(comparison):
    assert np.isfinite(comparison.of("good", "ndcg@3", "new")).tolist() == [True, True, False]


def test_the_difference_is_paired_and_named(comparison):
    absolute, relative = comparison.difference("good", metric="mrr@3")
    assert absolute.mean == pytest.approx(1 - (1 / 3 + 1 / 3 + 1 / 2) / 3)
    assert relative.mean == pytest.approx(absolute.mean / ((1 / 3 + 1 / 3 + 1 / 2) / 3))
    assert absolute.low > 0 and absolute.users == 3


def test_lists_are_described_beside_the_references(comparison):
    # Lists of three: u1 c d e against e f c, u2 h c d against c d h, u3 f g h in both.
    np.testing.assert_allclose(comparison.of("good", "overlap@10"), [2 / 3, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(comparison.of("poor", "overlap@10"), [1, 1, 1])
    np.testing.assert_allclose(comparison.of("good", "head_share@10"), [0, 0, 0])  # a and b are the head, and had
    assert 0 <= comparison.exposure["good"] < 1
    assert comparison.means("good")["exposure_gini@10"] == comparison.exposure["good"]
    assert comparison.fairness(("ndcg@3",))["good"]["ndcg@3"]["worst"] == ""  # three users are no groups


def test_probabilities_are_held_against_what_was_taken(asked, catalogue, start, scripted):
    sure, mute = scripted(rows("cd", "h", "f")), scripted(rows("cd", "h", "f"))
    sure.probabilities = np.ones_like
    found = compare({"sure": sure, "mute": mute}, *asked, catalogue, start, samples=10)
    # Of eight items six, six and three are shown, and two, one and one are taken; it was sure of all.
    assert found.calibration["sure"] == pytest.approx(1 - 4 / 15)
    assert np.isnan(found.calibration["mute"]) and "calibration_error@50" not in found.means("mute")
    assert found.means("sure")["calibration_error@50"] == found.calibration["sure"]


@pytest.mark.parametrize("asks", [("nobody", "ndcg@3", "all"), ("good", "ndcg@7", "all"), ("good", "ndcg@3", "tall")])
def test_an_unknown_name_is_answered_with_the_names_there_are(comparison, asks):
    with pytest.raises(ValueError, match="There are: "):
        comparison.of(*asks)


def test_a_comparison_survives_json(asked, catalogue, start, scripted):
    models = {"good": scripted(rows("cd", "h", "f")), "broken": scripted(rows("cd", "h", "f"))}
    models["broken"].rows["u2"] = np.full(10, np.nan)
    before = compare(models, *asked, catalogue, start, samples=100)
    text = json.dumps(before.to_dict(), allow_nan=False)
    after = Comparison.from_dict(json.loads(text))
    assert after.to_dict() == before.to_dict()
    np.testing.assert_array_equal(after.of("good", "recall@10", "new"), before.of("good", "recall@10", "new"))
    assert after.health["broken"].broken_users == 1
    assert "u2" not in text  # no id of a user leaves the evaluation


def test_scores_for_another_catalogue_are_refused(asked, catalogue, start, scripted):
    short = scripted({user: np.zeros(7) for user in ("u1", "u2", "u3")})
    with pytest.raises(ValueError, match="another catalogue"):
        compare({"short": short}, *asked, catalogue, start)


def test_chunks_of_users_change_nothing(asked, catalogue, start, scripted, monkeypatch):
    models = {"poor": scripted(rows("efc", "cdh", "g"))}
    whole = compare(models, *asked, catalogue, start, samples=100).to_dict()
    monkeypatch.setattr("pipeline.evaluation.compare.USERS_AT_ONCE", 2)
    parts = compare(models, *asked, catalogue, start, samples=100).to_dict()
    assert whole["values"] == parts["values"]


class Popular:
    """Counts what it is told of."""

    name = "popular"

    def scores(self, histories, as_of):
        found = np.tile(self.counts.astype(np.float32), (histories.num_users, 1))
        found[:, :2] = -np.inf
        return found


def test_users_with_moments_of_their_own_are_told_nothing_of_what_came_after_them(catalogue, start):
    # u1 ends on the first day, when h was popular; a day later everybody takes g.
    rows = [("u1", "a", 0), ("x", "h", -2), ("y", "h", -2), ("x", "g", 20), ("y", "g", 21), ("z", "g", 22)]
    rows.append(("u2", "a", 24))
    known = histories_at(rows, catalogue, start)
    future = histories_at([("u1", "h", 48), ("u2", "g", 48), ("x", "a", 48)], catalogue, start, known.user_ids)
    model, told = Popular(), []

    def tell(name, moment):
        told.append(moment)
        model.counts = np.bincount(known.before(moment).items, minlength=catalogue.num_items)

    found = compare({"popular": model}, known, future, catalogue, start, ks=(1,), samples=50, tell=tell)
    assert told == sorted(told) and told[0] == start and told[-1] == start + timedelta(hours=24)
    np.testing.assert_array_equal(found.of("popular", "hr@1"), [1, 1, 1])
    tell("popular", start + timedelta(hours=48))
    late = compare({"popular": model}, known, future, catalogue, start, ks=(1,), samples=50)
    assert late.of("popular", "hr@1")[0] == 0  # at the end of the log g is what u1 would be told


def test_users_of_like_moments_are_asked_at_the_earliest_of_them(catalogue, start):
    known = histories_at([("a", "a", 5), ("b", "a", 1), ("c", "a", 3), ("d", "a", 9)], catalogue, start)
    found = [(moment - start, users.tolist()) for moment, users in own_moments(known, groups=2)]
    assert found == [(timedelta(hours=1), [1, 2]), (timedelta(hours=5), [0, 3])]


def histories_at(rows, catalogue, start, users=None) -> Histories:
    """(user, item, hours after the start); of `users`, where given, also those without a row."""
    order = sorted(range(len(rows)), key=lambda at: (rows[at][0], rows[at][2]))
    names = np.array(sorted({row[0] for row in rows}) if users is None else users, dtype=object)
    lengths = np.array([sum(row[0] == name for row in rows) for name in names])
    return Histories(
        names, np.concatenate([[0], np.cumsum(lengths)]), catalogue.index_of([rows[at][1] for at in order]),
        np.ones(len(rows), dtype=np.int16),
        np.array([microseconds_of(start + timedelta(hours=rows[at][2])) for at in order], dtype=np.int64), ("view",),
    )


def test_a_window_without_a_question_gives_an_empty_comparison(histories_of, catalogue, start, scripted):
    histories = histories_of({"u1": "ab|"})
    future = histories.between(start, start + timedelta(days=1))
    found = compare({"any": scripted({})}, histories.before(start), future, catalogue, start, samples=100)
    assert found.facts["users"] == 0
    json.dumps(found.to_dict(), allow_nan=False)


class Follows:
    """Scores the item that the first number of the LTI vector names."""

    name = "follows"

    def scores(self, histories, as_of, lti=None):
        found = np.tile(-np.arange(10, dtype=np.float32), (histories.num_users, 1))
        for row, vector in enumerate(lti):
            if vector[0] > 0:
                found[row, int(vector[0])] = 10.0
        found[:, :2] = -np.inf
        return found


def test_placebos_tell_a_model_that_uses_interest_from_one_that_does_not(asked, catalogue, start):
    known, future = asked
    lti = np.array([[4.0], [9.0], [7.0]], dtype=np.float32)  # c, h, f: what each user takes next
    found = placebo_table(Follows(), known, future, catalogue, start, lti, earlier={"old": lti}, samples=100)
    means = {model: found.interval(model, "hr@10").mean for model in found.models}
    ndcg = {model: found.interval(model, "ndcg@10").mean for model in found.models}
    assert means["own"] == 1.0 and ndcg["own"] == ndcg["old"] == 1.0
    assert ndcg["own"] > ndcg["zeros"] > 0 and ndcg["own"] > ndcg["another"]
    assert found.reference == "zeros"


class AfterTheLast:
    """Scores the item after the newest one of the history in the alphabet; nothing is known of no history."""

    name = "after_the_last"

    def scores(self, histories, as_of, lti=None):
        found = np.tile(-np.arange(10, dtype=np.float32), (histories.num_users, 1))
        for row in range(histories.num_users):
            if len(items := histories.user(row)[0]):
                found[row, (items[-1] + 1) % 10] = 10.0
        found[:, :2] = -np.inf
        return found


def test_a_hybrid_is_told_of_others_of_nobody_and_of_long_ago(histories_of, catalogue, start):
    histories = histories_of({"u1": "ag|h", "u2": "ac|d", "u3": "ae|f"})
    known, future = histories.before(start), histories.between(start, start + timedelta(days=1))
    hybrid = Hybrid({"interest_evolution": AfterTheLast(), "collaborative_filter": AfterTheLast()},
                    {"interest_evolution": 1.0, "collaborative_filter": 0.0})
    told = []

    def encode(given):
        told.append(given.lengths.tolist())
        return np.zeros((given.num_users, 1), dtype=np.float32)

    found = hybrid_placebo(hybrid, AfterTheLast(), encode, known, future, catalogue, start, ks=(1,), samples=50)
    hits = {name: found.of(name, "hr@1").tolist() for name in found.models}
    assert hits["own"] == [1, 1, 1] and hits["another"] == [0, 0, 0]
    assert hits["zeros"] == hits["90_days_ago"] != hits["own"]  # all events are of the last hours
    assert told == [[2, 2, 2], [2, 2, 2], [0, 0, 0], [0, 0, 0]] and found.reference == "zeros"


def test_an_old_state_knows_what_was_before_it_and_leaves_out_all_that_was_had(histories_of, catalogue, start):
    histories = histories_of({"u1": "abc|d", "u2": "ef|g"})
    known, future = histories.before(start), histories.between(start, start + timedelta(days=1))
    found = staleness_table(AfterTheLast(), known, future, catalogue, start, ages=(0, 1), ks=(1,), samples=50)
    assert found.of("0_days_old", "hr@1").tolist() == [1, 1]
    assert found.of("1_days_old", "hr@1").tolist() == [1, 0]  # of nobody a is best, b and c follow; all were had, d not
    with pytest.raises(ValueError, match="nothing was told"):
        Instead(AfterTheLast(), known.user_ids[:1], known.take([0]), "x").scores(known, start)


def test_nobody_keeps_their_own_vector_in_the_placebo():
    vectors = np.arange(20.0).reshape(10, 2)
    mixed = of_another_user(vectors, seed=3)
    assert sorted(mixed[:, 0]) == sorted(vectors[:, 0])
    assert (mixed[:, 0] != vectors[:, 0]).all()


def test_a_user_without_a_vector_gets_zeros(histories_of):
    table = InterestTable(np.array(["u2"], dtype=object), np.array([[1.0, 2.0]], dtype=np.float32))
    np.testing.assert_array_equal(table(histories_of({"u1": "a", "u2": "b"})), [[0, 0], [1, 2]])
