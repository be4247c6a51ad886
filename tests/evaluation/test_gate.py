"""The gate promotes what is as good, and holds what is worse, broken, constant or unproven."""

import json
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from pipeline.evaluation.compare import compare
from pipeline.evaluation.gate import decide
from pipeline.features.histories import Catalogue, Histories
from pipeline.models.baselines import EASE, Popularity
from pipeline.settings.learning import Gate, GateRule

GATE = Gate(rules=(GateRule(metric="ndcg@10", max_drop=0.05), GateRule(metric="recall@50", max_drop=0.05)))


class Changed:
    """A fitted recommender whose scores pass through a function."""

    def __init__(self, model, change) -> None:
        self.model, self.change, self.name = model, change, "changed"

    def fit(self, histories, catalogue, as_of):
        return self

    def scores(self, histories, as_of):
        found = self.change(self.model.scores(histories, as_of).copy())
        found[:, :2] = -np.inf
        return found


@pytest.fixture(scope="module")
def town():
    """120 users of six circles with twenty items each; a user stays in the circle, before and after the split."""
    start = datetime.fromisoformat("2026-03-01T00:00:00+00:00")
    rng = np.random.default_rng(11)
    rows = []
    for user in range(120):
        wanted = rng.permutation(20)[:14] + 20 * (user % 6)
        for place, item in enumerate(wanted):
            rows.append((f"{user}-{place}", f"u{user:03d}", f"i{item:03d}", "view", start + timedelta(hours=place - 8)))
    columns = ["event_id", "user_id", "item_id", "event_type", "event_time"]
    frame = pl.DataFrame(rows, schema=columns, orient="row").cast({"event_time": pl.Datetime("us", "UTC")})
    catalogue = Catalogue.of([(f"i{item:03d}", f"item {item}", [f"c{item // 20}"]) for item in range(120)])
    histories = Histories.from_events(frame, catalogue, ("view",))
    known, future = histories.before(start), histories.between(start, start + timedelta(days=2))
    return known, future, catalogue, start


@pytest.fixture(scope="module")
def judge(town):
    """Judge a changed EASE against the unchanged one (or against nobody)."""
    known, future, catalogue, start = town
    ease = EASE(regularisation=20.0).fit(known, catalogue, start)
    popularity = Popularity().fit(known, catalogue, start)

    def judged(change, champion="champion", gate=GATE, model=ease):
        models = {"challenger": Changed(model, change), "champion": ease, "popularity": popularity}
        found = compare(models, known, future, catalogue, start, reference="champion", samples=200)
        return decide(found, "challenger", champion, gate)

    return judged


def shuffled_items(scores):
    """The scores of item i are given to another item: shuffled item embeddings."""
    return scores[:, np.concatenate([[0, 1], 2 + np.random.default_rng(5).permutation(scores.shape[1] - 2)])]


def test_a_challenger_that_is_as_good_is_promoted_with_every_rule_shown(judge):
    decision = judge(lambda scores: scores)
    assert decision.promote and len(decision.outcomes) == 2
    assert decision.reasons[0] == "Promoted: 2 of 2 rules enforced, all passed."
    assert "ndcg@10 on all (120 users)" in decision.reasons[1]


@pytest.mark.fault("a sabotaged model")
def test_a_challenger_with_shuffled_item_embeddings_is_held(judge):
    decision = judge(shuffled_items)
    assert not decision.promote
    assert decision.reasons[0].startswith("failed: ndcg@10 on all (120 users)")


def test_a_challenger_trained_on_shuffled_labels_is_held(judge, town):
    known, _, catalogue, start = town
    shuffled = Histories(
        known.user_ids,
        known.offsets,
        np.random.default_rng(3).permutation(known.items),
        known.types,
        known.times,
        known.event_types,
    )
    sabotaged = EASE(regularisation=20.0).fit(shuffled, catalogue, start)
    assert not judge(lambda scores: scores, model=sabotaged).promote


@pytest.mark.fault("a NaN model")
def test_scores_that_are_not_numbers_hold_a_model_even_if_few(judge):
    def one_nan(scores):
        scores[0, 5] = np.nan
        return scores

    decision = judge(one_nan)
    assert not decision.promote
    assert decision.reasons[0] == "Held: the scores of 1 of 120 users are NaN or infinite."


@pytest.mark.fault("a constant model")
def test_a_model_that_scores_all_items_the_same_is_held_also_as_a_first_champion(judge):
    for champion in ("champion", None):
        decision = judge(lambda scores: np.zeros_like(scores), champion)
        assert not decision.promote
        assert decision.reasons[0] == "Held: all items score the same for 120 of 120 users."


def test_a_first_champion_must_not_be_worse_than_popularity(judge):
    assert judge(lambda scores: scores, champion=None).promote
    held = judge(lambda scores: -scores, champion=None)
    assert not held.promote and "v popularity" in held.reasons[0]
    assert judge(lambda scores: -scores, champion=None, gate=Gate(rules=GATE.rules, beats_popularity=False)).promote


def test_a_rule_with_too_few_users_is_reported_and_not_enforced(judge):
    strict = GateRule(metric="ndcg@10", cohort="new", max_drop=0.0, min_users=1)
    decision = judge(shuffled_items, gate=Gate(rules=(strict,)))
    assert not decision.promote  # nobody is new, so nothing is known
    assert decision.reasons[0].startswith("Held: no rule had enough users")
    few = GateRule(metric="ndcg@10", max_drop=0.0, min_users=1000)
    decision = judge(shuffled_items, champion=None, gate=Gate(rules=(few,)))
    assert decision.promote and not decision.outcomes[0].enforced
    assert "1000 users are needed" in decision.reasons[1]


def test_one_cohort_can_hold_a_model_whose_mean_is_as_good(judge):
    def bad_for_heavy(scores):
        scores[::3] = shuffled_items(scores[::3])
        return scores

    lenient = GateRule(metric="ndcg@10", max_drop=0.9)
    decision = judge(bad_for_heavy, gate=Gate(rules=(lenient, GateRule(metric="ndcg@10", cohort="light"))))
    assert not decision.promote and [outcome.passed for outcome in decision.outcomes] == [True, False]


def test_the_interval_is_a_stricter_judge_than_the_mean(judge):
    def jitter(scores):
        return scores + 0.1 * np.random.default_rng(1).standard_normal(scores.shape).astype(np.float32)

    mean = judge(jitter, gate=Gate(rules=(GateRule(metric="ndcg@10", max_drop=0.5),))).outcomes[0]
    tight = GateRule(metric="ndcg@10", max_drop=abs(mean.change) + 1e-6, evidence="interval")
    assert mean.change < 0 and mean.low < mean.change
    assert not judge(jitter, gate=Gate(rules=(tight,))).promote
    assert judge(jitter, gate=Gate(rules=(tight.model_copy(update={"evidence": "mean"}),))).promote


def test_what_must_be_gained_is_not_given_for_being_as_good(judge):
    better = GateRule(metric="ndcg@10", min_gain=0.05)
    same = judge(lambda scores: scores, gate=Gate(rules=(better,)))
    assert not same.promote and "the mean must gain 5%" in same.reasons[0]
    poor = judge(lambda scores: scores, gate=Gate(rules=(better.model_copy(update={"min_gain": 0.0}),)))
    assert poor.promote
    # Popularity is no champion to be beaten by so much: a first champion is asked the other rules only.
    first = judge(lambda scores: scores, champion=None, gate=Gate(rules=(better, *GATE.rules)))
    assert first.promote and len(first.outcomes) == 2


def test_no_group_is_left_behind(judge, town):
    known = town[0]
    groups = Gate(rules=(GateRule(cohort="each group", max_drop=0.1, evidence="certain_loss"),))
    assert judge(lambda scores: scores, gate=groups).promote
    decision = judge(shuffled_items, gate=groups)
    assert {outcome.cohort for outcome in decision.outcomes} == {
        "new", "light", "heavy", "stable", "drifting", "returning"
    }
    failed = [outcome for outcome in decision.outcomes if outcome.enforced and not outcome.passed]
    assert not decision.promote and {outcome.cohort for outcome in failed} >= {"light", "stable"}
    assert known.num_users == 120


def test_only_a_certain_loss_fails_where_the_rule_asks_for_one(judge):
    def jitter(scores):
        return scores + 0.1 * np.random.default_rng(1).standard_normal(scores.shape).astype(np.float32)

    rule = GateRule(metric="ndcg@10", max_drop=0.0, evidence="mean")
    outcome = judge(jitter, gate=Gate(rules=(rule,))).outcomes[0]
    assert outcome.change < 0 and not outcome.passed
    between = GateRule(metric="ndcg@10", max_drop=-(outcome.change + outcome.high) / 2, evidence="certain_loss")
    assert judge(jitter, gate=Gate(rules=(between,))).promote
    beyond = between.model_copy(update={"max_drop": max(0.0, -outcome.high - 1e-6)})
    if outcome.high < 0:
        assert not judge(jitter, gate=Gate(rules=(beyond,))).promote


def test_of_some_metrics_less_is_better(judge):
    rule = GateRule(metric="miscalibration@10", max_drop=0.1)
    decision = judge(shuffled_items, gate=Gate(rules=(rule,)))
    assert not decision.promote and decision.outcomes[0].change > 0.1
    assert "less is better" in decision.reasons[0]


def test_a_decision_is_json(judge):
    text = json.dumps(judge(shuffled_items).to_dict(), allow_nan=False)
    assert json.loads(text)["promote"] is False


def test_an_unknown_metric_in_a_rule_is_named(judge):
    with pytest.raises(ValueError, match="ndcg@11"):
        judge(lambda scores: scores, gate=Gate(rules=(GateRule(metric="ndcg@11"),)))
