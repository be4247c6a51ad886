import json
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from pipeline.contracts import BEHAVIOR_EVENTS
from pipeline.errors import BadPartition, NotFound
from pipeline.partitions import Day
from pipeline.steps import interest_evolution
from pipeline.steps.interest_evolution import gate_interest_model, train_interest_model
from pipeline.steps.model_runs import ModelRun, RunFolder
from pipeline.stores.ledger import Ledger
from pipeline.stores.registry import CHAMPION, Registry
from pipeline.stores.tables import Lake

MODEL = "interest_evolution"


@pytest.fixture
def week(planted_start):
    return lambda number: planted_start + timedelta(weeks=number)


def test_a_cutoff_is_trained_and_registered_once(trained, week, known_at):
    again = train_interest_model(week(7), trained, known_at)
    assert (again.version, again.was_registered) == (1, True)
    assert again.metrics["ndcg@10"] > 0
    assert len(Registry(trained).versions(MODEL)) == 1


def test_a_version_says_from_what_it_was_made(trained, week):
    version = Registry(trained).version(MODEL, 1)
    assert version.model_cutoff == week(7)
    assert version.trained_until == week(6)
    assert version.run_key == f"{MODEL}@{Day.of(week(7))}"
    assert version.tags["delta.behavior_events"] == "0"
    assert version.tags["feature_service"] == "training_v1"
    assert version.space_id.startswith("interest-")
    assert {"seed", "delta.items", "manifest"} <= set(version.tags)


def test_the_evaluation_holds_baselines_intervals_cohorts_and_the_decision(trained, week):
    evaluation = json.loads(RunFolder.of(trained, f"{MODEL}@{Day.of(week(7))}").evaluation.read_text())
    rows = {row["model"]: row for row in evaluation["comparison"]["table"]}
    assert {MODEL, "popularity", "popularity_30d", "item_knn", "ease", "implicit_als"} <= set(rows)
    assert rows[MODEL]["ndcg@10"]["low"] <= rows[MODEL]["ndcg@10"]["mean"] <= rows[MODEL]["ndcg@10"]["high"]
    assert "heavy" in evaluation["comparison"]["by_cohort"]
    assert evaluation["comparison"]["fairness"]["interest_evolution"]["recall@50"]
    ages = [row["model"] for row in evaluation["staleness"]["table"]]
    assert ages == ["0_days_old", "7_days_old", "14_days_old", "21_days_old", "28_days_old"]
    assert evaluation["decision"]["promote"] is True
    registered = Registry(trained).evidence(Registry(trained).version(MODEL, 1), "evaluation.json")
    assert json.loads(registered.read_text()) == evaluation


def test_a_finished_training_is_not_repeated_when_registering_it_failed(planted, week, known_at, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(ModelRun, "register", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_interest_model(week(7), planted, known_at)
    monkeypatch.setattr(
        interest_evolution, "train_together", lambda *args, **kwargs: pytest.fail("trained a second time")
    )
    assert train_interest_model(week(7), planted, known_at).version == 1


def test_events_after_the_cutoff_change_nothing(trained, week):
    lake = Lake(trained.lake_url)
    nothing = BEHAVIOR_EVENTS.empty().with_columns(event_date=pl.lit(""))
    lake.replace_range(BEHAVIOR_EVENTS, Day.of(week(7)), lake.days(BEHAVIOR_EVENTS)[-1], nothing)
    run = RunFolder.of(trained, "again")
    interest_evolution._train(interest_evolution.read_training_data(week(7), trained), run, trained)
    space_id = json.loads((run.model / "config.json").read_text())["space_id"]
    assert space_id == Registry(trained).version(MODEL, 1).space_id


def test_training_without_enough_history_says_what_is_missing(planted, week, known_at):
    with pytest.raises(BadPartition, match="learns from events before"):
        train_interest_model(week(1), planted, known_at)


def test_a_gate_without_a_version_says_so(planted, week, known_at):
    with pytest.raises(NotFound, match="Train it first"):
        gate_interest_model(week(7), planted, known_at)


def test_gating_twice_changes_nothing(trained, week, known_at):
    decisions = Ledger(trained.ledger_url).promotions(MODEL)
    outcome = gate_interest_model(week(7), trained, known_at + timedelta(days=1))
    assert outcome.promoted
    assert Ledger(trained.ledger_url).promotions(MODEL) == decisions
    assert [decision.decision for decision in decisions] == ["promoted"]


def test_a_candidate_that_learned_from_shuffled_labels_is_held(trained, week, known_at, monkeypatch):
    train = interest_evolution.train_together

    def train_on_nonsense(histories, validation, *rest, **how):
        generator = np.random.default_rng(3)
        for part in (histories, validation):
            generator.shuffle(part.items)
        return train(histories, validation, *rest, **how)

    monkeypatch.setattr(interest_evolution, "train_together", train_on_nonsense)
    train_interest_model(week(8), trained, known_at)
    outcome = gate_interest_model(week(8), trained, known_at)
    registry = Registry(trained)
    assert not outcome.promoted
    assert outcome.champion == 1
    assert any("failed: ndcg@10 on all" in reason for reason in outcome.reasons)
    assert registry.aliased(MODEL, CHAMPION).number == registry.champion(MODEL).number == 1
    assert registry.version(MODEL, 2).status == "held"


def test_a_better_or_equal_candidate_follows_the_champion(trained, week, known_at):
    train_interest_model(week(9), trained, known_at)
    outcome = gate_interest_model(week(9), trained, known_at)
    registry = Registry(trained)
    assert outcome.champion == 1
    assert outcome.promoted, outcome.reasons
    assert registry.champion(MODEL, week(9)).number == 2
    assert registry.champion(MODEL, week(9) - timedelta(seconds=1)).number == 1


def test_a_candidate_with_a_changed_byte_is_held(planted, week, known_at):
    train_interest_model(week(7), planted, known_at)
    registry = Registry(planted)
    weights = registry.fetch(registry.version(MODEL, 1)) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    outcome = gate_interest_model(week(7), planted, known_at)
    assert not outcome.promoted
    assert "does not load in a fresh process" in outcome.reasons[0]
    assert registry.champion(MODEL) is None
