"""Definitions come from the contracts, are applied once, and pushes are checked before they are written."""

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pandas as pd
import polars as pl
import pytest
import yaml

from pipeline.contracts import LONG_TERM_INTEREST, TABLES
from pipeline.errors import ContractViolation, EngineFailure, NotFound, UserMistake
from pipeline.partitions import Day
from pipeline.settings import Online, Settings

OTHER_SPACES = ["long_term_interest_mapped", "long_term_interest_reencoded"]
VIEWS = ["interest_windows", "item_text", "long_term_interest", *OTHER_SPACES, "recommendations", "sequence_features"]
SERVICES = ["ranking_v1", "support_profile_v1", "training_reencoded_v1", "training_v1"]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def applied(tmp_path_factory) -> Settings:
    from pipeline.stores.feature_store import apply_definitions

    settings = Settings.load(home=tmp_path_factory.mktemp("home"))
    assert apply_definitions(settings)
    return settings


@pytest.fixture(scope="module")
def store(applied):
    from pipeline.stores.feature_store import open_feature_store

    return open_feature_store(applied)


def vectors(**changes) -> pl.DataFrame:
    row = {
        "user_id": "anna",
        "vector": [0.6, 0.8],
        "space_id": "s1",
        "model_version": 1,
        "model_cutoff": NOON,
        "event_timestamp": NOON,
        "created": NOON,
    }
    return pl.DataFrame([row | changes], schema=LONG_TERM_INTEREST.schema)


def test_the_views_and_services_are_those_that_consumers_were_promised(store):
    assert sorted(view.name for view in store.list_feature_views()) == VIEWS
    assert sorted(service.name for service in store.list_feature_services()) == SERVICES


def test_every_object_says_what_it_is_and_who_answers_for_it(store):
    declared = [
        *store.list_entities(),
        *store.list_data_sources(),
        *store.list_feature_views(),
        *store.list_feature_services(),
    ]
    for thing in declared:
        if thing.name != "__dummy":
            assert thing.description and thing.owner and thing.tags, thing.name
    for view in store.list_feature_views():
        assert view.tags["missing"]
        without = ("item_text", *OTHER_SPACES)  # a text holds until it changes; other spaces are written when asked for
        assert ("freshness" in view.tags) == (view.name not in without)
        assert all(field.description for field in view.schema), view.name
        assert ("space" in view.tags) == any(field.name == "space_id" for field in view.schema)


def test_a_view_has_the_columns_types_and_meanings_of_its_contract(store):
    from pipeline.stores.declarations import feast_type

    for table in TABLES:
        if table.name in VIEWS:
            view = store.get_feature_view(table.name)
            served = {field.name: (field.dtype, field.description) for field in (*view.entity_columns, *view.features)}
            promised = {
                column.name: (feast_type(column.dtype), column.meaning)
                for column in table.columns
                if column.name not in ("event_timestamp", "created")
            }
            assert {name: served[name][0] for name in served} == {name: promised[name][0] for name in promised}
            assert {f.name: f.description for f in view.features} == {
                f.name: promised[f.name][1] for f in view.features
            }


def test_a_service_names_each_feature_once_so_short_names_are_enough(store):
    for service in store.list_feature_services():
        names = [feature.name for view in service.feature_view_projections for feature in view.features]
        assert len(names) == len(set(names)), service.name


def test_applying_again_writes_nothing(applied):
    from pipeline.stores.feature_store import apply_definitions

    registry = applied.place("feast/registry.db")
    before = registry.read_bytes()
    assert not apply_definitions(applied)
    assert registry.read_bytes() == before


def test_asking_whether_the_definitions_are_applied_makes_no_file(settings):
    from pipeline.stores.feature_store import apply_definitions, definitions_are_applied

    assert not definitions_are_applied(settings)
    assert list(settings.home.rglob("*")) == []
    apply_definitions(settings)
    assert definitions_are_applied(settings)


def test_a_lost_online_file_is_made_again(tmp_path):
    from pipeline.stores.feature_store import apply_definitions, push_online

    settings = Settings.load(home=tmp_path, online=Online(url=str(tmp_path / "elsewhere" / "online.db")))
    assert apply_definitions(settings)
    for file in (tmp_path / "elsewhere").iterdir():
        file.unlink()
    assert apply_definitions(settings)
    assert push_online(settings, "long_term_interest", vectors()).accepted == 1


@pytest.mark.fault("concurrent feast apply")
def test_of_several_processes_that_apply_at_once_one_writes(tmp_path):
    from pipeline.stores.feature_store import apply_definitions, open_feature_store

    settings = Settings.load(home=tmp_path)
    with ThreadPoolExecutor(4) as several:
        assert sorted(several.map(apply_definitions, [settings] * 4)) == [False, False, False, True]
    assert sorted(view.name for view in open_feature_store(settings).list_feature_views()) == VIEWS


def test_the_rendered_configuration_is_private_and_names_absolute_places(applied):
    from pipeline.stores.feature_store import feature_store_yaml, ui_command

    path = feature_store_yaml(applied)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    rendered = yaml.safe_load(path.read_text())
    assert rendered["registry"]["path"] == str(applied.place("feast/registry.db"))
    assert rendered["online_store"]["path"] == str(applied.place("feast/online.db"))
    command = ui_command(applied)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert str(path) in command


@pytest.mark.parametrize(
    ("frame", "fact"),
    [
        (vectors().drop("space_id"), "space_id: expected String, found no such column"),
        (vectors().with_columns(pl.lit("1").alias("model_version")), "model_version: expected Int64, found String"),
        (vectors(vector=[0.5, None]), "vector: 1 missing inside arrays"),
        (vectors(vector=None), "vector: 1 missing"),
        (vectors(vector=[float("nan"), 0.0]), "vector: NaN or infinite"),
        (vectors(user_id=None), "user_id: 1 missing"),
    ],
)
def test_a_push_that_feast_would_distort_is_refused_before_anything_is_written(applied, frame, fact):
    from pipeline.stores.feature_store import push_online

    with pytest.raises(ContractViolation, match="nothing changed online") as caught:
        push_online(applied, "long_term_interest", frame)
    assert fact in str(caught.value)


@pytest.mark.parametrize(
    ("view", "values", "fact"),
    [
        ("sequence_features", {"item_ids": ["i1", None]}, "item_ids: missing or empty inside an array"),
        ("sequence_features", {"event_times": [NOON, None]}, "event_times: missing inside an array"),
        ("long_term_interest", {"vector": [0.5, None]}, "vector: missing, NaN or infinite inside an array"),
    ],
)
def test_what_feast_itself_has_distorted_on_its_own_way_in_is_refused(store, view, values, fact):
    sequence = {"item_ids": ["i1", "i2"], "event_types": ["view", "view"], "event_times": [NOON, NOON], "num_events": 2}
    vector = {name: vectors()[name].to_list()[0] for name in ("vector", "space_id", "model_version", "model_cutoff")}
    row = (sequence if view == "sequence_features" else vector) | values
    row |= {"user_id": "holes", "event_timestamp": NOON, "created": NOON}
    with pytest.raises(ContractViolation, match="nothing changed online") as caught:
        store.write_to_online_store(view, pd.DataFrame([row]))
    assert fact in str(caught.value)
    [feature] = values
    assert store.get_online_features([f"{view}:{feature}"], [{"user_id": "holes"}]).to_dict()[feature] == [None]


def test_an_empty_push_is_no_push(applied):
    from pipeline.stores.feature_store import push_online

    assert push_online(applied, "long_term_interest", LONG_TERM_INTEREST.empty()).rows == 0


def test_a_view_that_does_not_exist_is_named_with_those_that_do(applied):
    from pipeline.stores.feature_store import push_online

    with pytest.raises(NotFound, match="item_text, long_term_interest"):
        push_online(applied, "behavior_events", pl.DataFrame())


def test_a_push_before_the_definitions_are_applied_says_so(settings):
    from pipeline.stores.feature_store import push_online

    with pytest.raises(NotFound, match="not applied"):
        push_online(settings, "long_term_interest", vectors())


def test_feast_may_not_write_the_lake(applied, store):
    from pipeline.stores.tables import Lake

    lake = Lake(applied.lake_url)
    lake.replace(LONG_TERM_INTEREST, Day.parse("2026-03-01"), vectors())
    with pytest.raises(UserMistake, match="nothing was written"):
        rows = vectors().with_columns(event_date=pl.lit("2026-03-01")).to_pandas()
        store.write_to_offline_store("long_term_interest", rows)
    assert lake.version(LONG_TERM_INTEREST) == 0


def test_a_redis_that_is_away_is_named_without_its_password(tmp_path):
    from pipeline.serving.lookup import look_up
    from pipeline.stores.feature_store import apply_definitions, newest_online, push_online

    away = Online(type="redis", url="127.0.0.1:1,password=hush")
    settings = Settings.load(home=tmp_path, online=away)
    apply_definitions(settings)
    for ask in (
        lambda: push_online(settings, "long_term_interest", vectors()),
        lambda: look_up(settings, "anna", "ranking_v1", NOON),
        lambda: newest_online(settings),
    ):
        with pytest.raises(EngineFailure, match="online store") as caught:
            ask()
        assert "hush" not in str(caught.value)


def test_an_online_file_that_is_damaged_is_the_stores_fault(tmp_path):
    from pipeline.serving.lookup import look_up
    from pipeline.stores.feature_store import apply_definitions, push_online

    settings = Settings.load(home=tmp_path)
    apply_definitions(settings)
    for file in settings.place("feast").glob("online.db*"):
        file.write_bytes(b"not a database" * 100)
    with pytest.raises(EngineFailure, match="online store"):
        push_online(settings, "long_term_interest", vectors())
    with pytest.raises(EngineFailure, match="did not answer"):
        look_up(settings, "anna", "ranking_v1", NOON)
