import json
from datetime import timedelta

import numpy as np
import pytest

from pipeline.errors import NotFound, UnsafeModel
from pipeline.models.release import Release
from pipeline.partitions import Day
from pipeline.serving.releases import load_interest, load_release
from pipeline.steps.collaborative_filter import (
    HYBRID,
    MODEL,
    gate_collaborative_filter,
    train_collaborative_filter,
)
from pipeline.steps.model_runs import RunFolder
from pipeline.stores.registry import Registry


@pytest.fixture
def cutoff(planted_start):
    return planted_start + timedelta(weeks=7)


def test_a_version_is_bound_to_the_interest_version_and_the_space_that_it_was_tuned_with(trained):
    registry = Registry(trained)
    version, interest = registry.champion(MODEL), registry.champion("interest_evolution")
    assert version.tags["interest_version"] == str(interest.number)
    assert version.space_id == interest.space_id
    assert load_release(registry, version).space_id == interest.space_id


def test_a_filter_and_an_interest_model_of_another_space_never_answer_together(trained):
    registry = Registry(trained)
    interest = load_interest(registry, registry.champion("interest_evolution"))
    interest.config.space_id = "interest-of-another-space"
    with pytest.raises(UnsafeModel, match="never meet in one answer"):
        Release.load(registry.fetch(registry.champion(MODEL)), interest)


def test_the_evaluation_holds_the_hybrid_the_parts_the_baselines_and_the_placebo(trained, cutoff):
    evaluation = json.loads(RunFolder.of(trained, f"{MODEL}@{Day.of(cutoff)}").evaluation.read_text())
    names = {row["model"] for row in evaluation["comparison"]["table"]}
    assert {MODEL, HYBRID, "interest_evolution", "content", "popularity", "ease", "implicit_als"} <= names
    assert {row["model"] for row in evaluation["placebo"]["table"]} >= {"own", "another", "zeros", "90_days_ago"}
    assert {row["model"] for row in evaluation["hybrid_placebo"]["table"]} == {"own", "another", "zeros", "90_days_ago"}
    parts = {MODEL, "interest_evolution", "content", "popularity_30d", "item_knn", "newest_item_knn"}
    assert set(evaluation["weights"]) == parts
    reasons = evaluation["decision"]["reasons"]
    assert any(reason.startswith(f"{HYBRID}: ") for reason in reasons)
    assert any(reason.startswith(f"{MODEL}: ") for reason in reasons)


def test_a_cutoff_is_trained_and_registered_once(trained, cutoff, known_at):
    again = train_collaborative_filter(cutoff, trained, known_at)
    assert (again.version, again.was_registered) == (1, True)
    assert gate_collaborative_filter(cutoff, trained, known_at).promoted
    assert len(Registry(trained).versions(MODEL)) == 1


def test_a_saved_release_scores_as_the_one_that_was_measured(trained, cutoff):
    from pipeline.steps.training_data import read_training_data

    registry, data = Registry(trained), read_training_data(cutoff, trained)
    release = load_release(registry, registry.champion(MODEL))
    known = data.histories.with_events().take(np.arange(5))
    saved = release.scores(known, cutoff)
    told_again = release.observe(data.histories, cutoff).scores(known, cutoff)
    np.testing.assert_allclose(saved[:, 2:], told_again[:, 2:], atol=1e-4)


def test_without_a_promoted_interest_model_it_says_what_to_do(planted, cutoff, known_at):
    with pytest.raises(NotFound, match="Train and gate the interest model first"):
        train_collaborative_filter(cutoff, planted, known_at)


@pytest.mark.parametrize(("start", "weeks", "begins_at"), [("anew", 2, None), ("new days", 1, 1)])
def test_the_next_week_starts_where_it_is_told_and_is_compared_with_the_champion(
    trained, cutoff, known_at, start, weeks, begins_at
):
    week = cutoff + timedelta(weeks=weeks)
    trained = trained.model_copy(
        update={"training": trained.training.model_copy(update={"filter_start": start})}
    )
    train_collaborative_filter(week, trained, known_at)
    run = RunFolder.of(trained, f"{MODEL}@{Day.of(week)}")
    evaluation = json.loads(run.evaluation.read_text())
    assert run.training_facts()["warm_start"] == begins_at
    assert evaluation["champion_version"] == 1
    assert {"champion", "champion_hybrid"} <= {row["model"] for row in evaluation["comparison"]["table"]}
    assert gate_collaborative_filter(week, trained, known_at).champion == 1
