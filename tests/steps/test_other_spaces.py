from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from pipeline.contracts import (
    LONG_TERM_INTEREST,
    LONG_TERM_INTEREST_MAPPED,
    LONG_TERM_INTEREST_REENCODED,
    SEQUENCE_FEATURES,
)
from pipeline.errors import ContractViolation, UnsafeModel, UserMistake
from pipeline.partitions import Day
from pipeline.settings import Spaces
from pipeline.steps.long_term_interest import embed_users, restate_interest
from pipeline.steps.spaces import MAP, map_to_last_space
from pipeline.stores.feature_store import apply_definitions, keys_of_views, open_feature_store, push_online
from pipeline.stores.registry import Registry
from pipeline.stores.tables import Lake

MODEL = "interest_evolution"


@pytest.fixture(autouse=True)
def no_home_remembered():
    """MLflow remembers by run where its files lie; the copies of a home share their runs."""
    from mlflow.tracking._tracking_service import utils

    utils._artifact_repos_cache.clear()


@pytest.fixture
def week(planted_start):
    return lambda number: planted_start + timedelta(weeks=number)


def test_a_day_before_the_first_model_is_reencoded_aside_and_served_to_nobody(trained, week, known_at):
    day = Day.of(week(7)).plus(-3)
    embedded = embed_users(day, trained, known_at)
    rows = Lake.of(trained).read(LONG_TERM_INTEREST_REENCODED, day)
    active = Lake.of(trained).read(SEQUENCE_FEATURES, day)["user_id"].n_unique()
    assert (embedded.state, embedded.users, embedded.pushed, embedded.reencoded) == ("no model yet", 0, 0, active)
    assert rows.select("model_version", "model_cutoff").unique().rows() == [(1, week(7))]
    assert not Lake.of(trained).exists(LONG_TERM_INTEREST)
    again = embed_users(day, trained, known_at + timedelta(days=1))
    assert (again.reencoded, Lake.of(trained).version(LONG_TERM_INTEREST_REENCODED)) == (active, 0)


def test_the_view_of_reencoded_days_says_so_and_cannot_be_pushed(trained, week, known_at):
    apply_definitions(trained)
    view = open_feature_store(trained).get_feature_view(LONG_TERM_INTEREST_REENCODED.name)
    assert (view.online, view.tags["reencoded"]) == (False, "yes")
    assert view.description.startswith("Re-encoded")
    assert view.name not in keys_of_views(trained), "an online rebuild would serve it"
    embed_users(Day.of(week(7)).plus(-3), trained, known_at)
    rows = Lake.of(trained).scan(LONG_TERM_INTEREST_REENCODED).collect()
    with pytest.raises(ContractViolation, match="is never served"):
        push_online(trained, view.name, rows)


def test_a_training_set_takes_reencoded_vectors_only_where_that_is_allowed(trained, week, known_at):
    from pipeline.serving.training_set import training_set

    apply_definitions(trained)
    day = Day.of(week(7)).plus(-3)
    embed_users(day, trained, known_at)
    user = Lake.of(trained).read(LONG_TERM_INTEREST_REENCODED, day)["user_id"][0]
    asked = pl.DataFrame({"user_id": [user], "event_timestamp": [day.end]})
    with pytest.raises(UserMistake, match="allow_reencoded=True"):
        training_set(asked, "training_reencoded_v1", trained, known_at=known_at)
    made = training_set(asked, "training_reencoded_v1", trained, known_at=known_at, allow_reencoded=True)
    assert (made.manifest.reencoded, len(made.rows["vector"][0])) == (1, 16)
    honest = training_set(asked, "training_v1", trained, known_at=known_at, allow_reencoded=True)
    assert honest.rows["vector"].null_count() == 1, "the honest view never holds a re-encoded vector"


def test_an_older_model_that_comes_later_ends_as_if_it_had_been_there(two_releases, week, known_at):
    registry, day = Registry(two_releases), Day.of(week(7))
    for model in (MODEL, "collaborative_filter"):
        registry.mlflow.client.set_model_version_tag(model, "1", "status", "candidate")
    assert embed_users(day, two_releases, known_at).reencoded > 0
    assert embed_users(day.plus(-1), two_releases, known_at).reencoded > 0
    for model in (MODEL, "collaborative_filter"):
        registry.mlflow.client.set_model_version_tag(model, "1", "status", "promoted")
    restated = restate_interest(two_releases, known_at + timedelta(hours=1))
    assert [(done.day, done.model_version, done.reencoded > 0) for done in restated] == [
        (day.plus(-1).key, None, True), (day.key, 1, False),
    ]  # fmt: skip
    lake = Lake.of(two_releases)
    newest = lake.current(LONG_TERM_INTEREST_REENCODED).collect()
    assert newest.select("model_version", "event_timestamp").unique().rows() == [(1, day.plus(-1).as_of)]
    assert restate_interest(two_releases, known_at + timedelta(hours=2)) == []


def test_a_promoted_version_keeps_a_measured_map_into_the_space_before(two_releases, week):
    quality = map_to_last_space(week(8), two_releases)
    first, second = Registry(two_releases).versions(MODEL)
    assert second.tags["previous_space"] == first.space_id
    assert (quality.fitted_users, quality.users) == (64, 16)
    assert quality.cosine > 0.3 and quality.overlap > 0.3
    assert map_to_last_space(week(8), two_releases) == quality
    assert map_to_last_space(week(7), two_releases) is None


def test_vectors_are_published_in_the_space_before_while_somebody_reads_it(two_releases, week, known_at):
    apply_definitions(two_releases)
    map_to_last_space(week(8), two_releases)
    first, second = (version.space_id for version in Registry(two_releases).versions(MODEL))
    day, lake = Day.of(week(8)), Lake.of(two_releases)
    assert embed_users(day, two_releases, known_at).mapped == 0
    assert not lake.exists(LONG_TERM_INTEREST_MAPPED)
    settings = two_releases.model_copy(update={"spaces": Spaces(still_read=(first,))})
    assert embed_users(day, settings, known_at).mapped == 80
    row = lake.read(LONG_TERM_INTEREST_MAPPED, day).row(0, named=True)
    assert (row["space_id"], row["mapped_from"], row["model_version"]) == (first, second, 2)
    assert np.linalg.norm(row["vector"]) == pytest.approx(1.0, abs=1e-5)
    names = [f"{LONG_TERM_INTEREST_MAPPED.name}:{name}" for name in ("vector", "space_id")]
    served = open_feature_store(settings).get_online_features(names, [{"user_id": row["user_id"]}]).to_dict()
    assert served["vector"] == [pytest.approx(row["vector"])]
    assert served["space_id"] == [first]


def test_a_map_that_was_exchanged_is_not_applied(two_releases, week, known_at):
    map_to_last_space(week(8), two_releases)
    registry = Registry(two_releases)
    first, second = registry.versions(MODEL)
    path = registry.evidence(second, MAP)
    other = two_releases.place("models/other") / MAP
    other.parent.mkdir(parents=True)
    other.write_bytes(path.read_bytes()[:-1] + b"x")
    registry.add_evidence(second, other)
    settings = two_releases.model_copy(update={"spaces": Spaces(still_read=(first.space_id,))})
    with pytest.raises(UnsafeModel, match="not the map that was registered"):
        embed_users(Day.of(week(8)), settings, known_at)
