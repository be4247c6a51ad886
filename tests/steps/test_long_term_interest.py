from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from pipeline.contracts import BEHAVIOR_EVENTS, LONG_TERM_INTEREST, SEQUENCE_FEATURES
from pipeline.partitions import Day
from pipeline.steps.interest_evolution import gate_interest_model
from pipeline.steps.long_term_interest import embed_users, restate_interest
from pipeline.steps.sequence_features import build_features
from pipeline.stores.feature_store import open_feature_store
from pipeline.stores.ledger import Ledger
from pipeline.stores.model_versions import Version
from pipeline.stores.registry import Registry
from pipeline.stores.tables import Lake

NAME = LONG_TERM_INTEREST.name


@pytest.fixture
def first_day(planted_start) -> Day:
    """The first day that the trained version serves."""
    return Day.of(planted_start + timedelta(weeks=7))


def current(settings, day: Day) -> pl.DataFrame:
    rows = Lake.of(settings).current(LONG_TERM_INTEREST, day, day)
    return rows.drop("created").sort("user_id").collect()


def online(settings, user: str) -> dict:
    features = [f"{NAME}:vector", f"{NAME}:space_id", f"{NAME}:model_version"]
    return open_feature_store(settings).get_online_features(features, [{"user_id": user}]).to_dict()


def test_a_day_before_the_first_model_is_recorded_and_is_no_failure(trained, first_day, known_at):
    embedded = embed_users(first_day.plus(-1), trained, known_at)
    line = Ledger(trained.ledger_url).partition(NAME, first_day.plus(-1).key)
    assert (embedded.state, embedded.users) == ("no model yet", 0)
    assert (line.state, line.details) == ("skipped", {"reason": "no model yet"})
    assert not Lake(trained.lake_url).exists(LONG_TERM_INTEREST)


def test_the_first_day_of_a_version_embeds_everybody_and_the_next_one_the_active(trained, first_day, known_at):
    first, second = (embed_users(day, trained, known_at) for day in (first_day, first_day.plus(1)))
    active = Lake(trained.lake_url).read(SEQUENCE_FEATURES, first_day.plus(1))["user_id"].n_unique()
    assert (first.users, first.everyone) == (80, True)
    assert (second.users, second.everyone) == (active, False)
    assert 0 < active < 80


def test_a_vector_carries_space_version_cutoff_and_both_times(trained, first_day, known_at):
    embed_users(first_day, trained, known_at)
    version = Registry(trained).champion("interest_evolution")
    rows = Lake(trained.lake_url).read(LONG_TERM_INTEREST, first_day)
    np.testing.assert_allclose(np.linalg.norm(rows["vector"].to_list(), axis=1), 1.0, rtol=1e-5)
    facts = rows.drop("user_id", "vector").unique().row(0, named=True)
    assert facts == {
        "space_id": version.space_id,
        "model_version": version.number,
        "model_cutoff": version.model_cutoff,
        "event_timestamp": first_day.as_of,
        "created": known_at,
    }


def test_what_is_pushed_online_is_what_stands_in_the_table(trained, first_day, known_at):
    assert embed_users(first_day, trained, known_at).pushed == 80
    row = current(trained, first_day).row(0, named=True)
    served = online(trained, row["user_id"])
    assert served["vector"] == [pytest.approx(row["vector"])]
    assert served["space_id"] == [row["space_id"]]


def test_embedding_a_day_twice_changes_nothing(trained, first_day, known_at):
    embed_users(first_day, trained, known_at)
    lake, ledger = Lake(trained.lake_url), Ledger(trained.ledger_url)
    before = lake.version(LONG_TERM_INTEREST), ledger.partitions(NAME)
    again = embed_users(first_day, trained, known_at + timedelta(days=1))
    assert (again.changed, again.pushed) == (False, 0)
    assert (lake.version(LONG_TERM_INTEREST), ledger.partitions(NAME)) == before


def test_days_that_ran_before_the_promotion_end_as_if_they_had_run_after_it(trained, first_day, known_at):
    days = [first_day.plus(offset) for offset in range(-1, 3)]
    for day in days:
        embed_users(day, trained, known_at)
    in_order = [current(trained, day) for day in days]

    registry = Registry(trained)
    lake = Lake(trained.lake_url)
    lake.replace_range(
        LONG_TERM_INTEREST, days[0], days[-1], LONG_TERM_INTEREST.empty().with_columns(event_date=pl.lit(""))
    )
    Ledger(trained.ledger_url).forget_partitions(NAME)
    as_candidate(registry, registry.version("interest_evolution", 1))
    assert {embed_users(day, trained, known_at).state for day in reversed(days)} == {"no model yet"}
    assert gate_interest_model(first_day.start, trained, known_at).promoted
    restated = restate_interest(trained, known_at)

    assert [embedded.day for embedded in restated] == [day.key for day in days[1:]]
    assert all(was.equals(current(trained, day)) for day, was in zip(days, in_order, strict=True))
    assert restate_interest(trained, known_at) == []


def test_a_restated_day_brings_the_vectors_of_later_days_up_to_date(trained, first_day, known_at):
    later = first_day.plus(1)
    for day in (first_day, later):
        embed_users(day, trained, known_at)
    lake = Lake(trained.lake_url)
    user = lake.read(SEQUENCE_FEATURES, later)["user_id"][0]
    stale = current(trained, later).filter(pl.col("user_id") == user)["vector"][0].to_list()
    events = lake.read(BEHAVIOR_EVENTS, first_day)
    late = events.head(1).with_columns(event_id=pl.lit("late"), user_id=pl.lit(user), item_id=pl.lit("i399"))
    lake.replace(BEHAVIOR_EVENTS, first_day, pl.concat([events, late]))
    afterwards = known_at + timedelta(hours=1)
    build_features(first_day, trained, afterwards)
    assert embed_users(first_day, trained, afterwards).later_days == [later.key]
    fresh = current(trained, later).filter(pl.col("user_id") == user)["vector"][0].to_list()
    assert fresh != pytest.approx(stale)
    assert online(trained, user)["vector"] == [pytest.approx(fresh)]


def as_candidate(registry: Registry, version: Version) -> None:
    """Take a decision back, as if the gate had not run yet."""
    registry.mlflow.client.set_model_version_tag(version.model, str(version.number), "status", "candidate")
