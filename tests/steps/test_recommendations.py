from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from pipeline.contracts import BEHAVIOR_EVENTS, RECOMMENDATIONS, SEQUENCE_FEATURES
from pipeline.partitions import Day
from pipeline.settings import Recommending
from pipeline.steps.recommendations import draft_recommendations, recommend_items
from pipeline.stores.feature_store import open_feature_store
from pipeline.stores.ledger import Ledger
from pipeline.stores.registry import Registry
from pipeline.stores.tables import Lake


@pytest.fixture
def first_day(planted_start) -> Day:
    """The first day that the trained release serves."""
    return Day.of(planted_start + timedelta(weeks=7))


def seen_by(settings, day: Day) -> dict[str, set[str]]:
    events = Lake.of(settings).scan(BEHAVIOR_EVENTS, None, day).group_by("user_id").agg("item_id").collect()
    return {user: set(items) for user, items in events.iter_rows()}


def test_a_day_before_the_first_release_is_recorded_and_is_no_failure(trained, first_day, known_at):
    recommended = recommend_items(first_day.plus(-1), trained, known_at)
    line = Ledger(trained.ledger_url).partition(RECOMMENDATIONS.name, first_day.plus(-1).key)
    assert (recommended.state, line.state) == ("no model yet", "skipped")


def test_lists_are_deep_falling_without_repetition_and_without_what_was_seen(trained, first_day, known_at):
    recommended = recommend_items(first_day, trained, known_at)
    rows = Lake(trained.lake_url).read(RECOMMENDATIONS, first_day)
    seen = seen_by(trained, first_day)
    assert recommended.users == rows.height == 80
    for row in rows.iter_rows(named=True):
        assert len(row["item_ids"]) == len(set(row["item_ids"])) == 100
        assert row["scores"] == sorted(row["scores"], reverse=True)
        assert not seen[row["user_id"]] & set(row["item_ids"])


def test_what_was_seen_comes_back_when_it_is_configured(trained, first_day, known_at):
    settings = trained.model_copy(update={"recommending": Recommending(include_seen=True)})
    recommend_items(first_day, settings, known_at)
    rows = Lake(trained.lake_url).read(RECOMMENDATIONS, first_day)
    seen = seen_by(trained, first_day)
    assert any(seen[row["user_id"]] & set(row["item_ids"]) for row in rows.iter_rows(named=True))


def test_the_planted_category_leads_the_lists(trained, first_day, known_at):
    recommend_items(first_day, trained, known_at)
    rows = Lake(trained.lake_url).read(RECOMMENDATIONS, first_day)
    own = [
        sum((int(item[1:]) // 100) == int(user[1:]) % 4 for item in items[:10]) / 10
        for user, items in rows.select("user_id", "item_ids").iter_rows()
    ]
    assert sum(own) / len(own) > 0.5  # by chance: 0.25


def test_a_day_is_of_one_release_and_one_space(trained, first_day, known_at):
    recommended = recommend_items(first_day, trained, known_at)
    version = Registry(trained).champion("collaborative_filter")
    rows = Lake(trained.lake_url).read(RECOMMENDATIONS, first_day)
    facts = rows.select("space_id", "model_version", "model_cutoff").unique()
    assert facts.rows() == [(version.space_id, version.number, version.model_cutoff)]
    assert recommended.interest_version == int(version.tags["interest_version"])


def test_after_the_first_day_only_the_active_get_new_lists(trained, first_day, known_at):
    recommended = recommend_items(first_day.plus(1), trained, known_at)
    active = Lake(trained.lake_url).read(SEQUENCE_FEATURES, first_day.plus(1))["user_id"].n_unique()
    assert recommended.users == active < 80


def test_recommending_twice_changes_nothing(trained, first_day, known_at):
    first = recommend_items(first_day, trained, known_at)
    lake, ledger = Lake(trained.lake_url), Ledger(trained.ledger_url)
    before = lake.version(RECOMMENDATIONS), ledger.partitions(RECOMMENDATIONS.name)
    again = recommend_items(first_day, trained, known_at + timedelta(days=1))
    assert (first.pushed, again.pushed, again.changed) == (80, 0, False)
    assert (lake.version(RECOMMENDATIONS), ledger.partitions(RECOMMENDATIONS.name)) == before


def test_the_online_list_is_the_one_in_the_table(trained, first_day, known_at):
    recommend_items(first_day, trained, known_at)
    row = Lake(trained.lake_url).read(RECOMMENDATIONS, first_day).filter(pl.col("user_id") == "u05")
    features = ["recommendations:item_ids", "recommendations:space_id"]
    served = open_feature_store(trained).get_online_features(features, [{"user_id": "u05"}]).to_dict()
    assert served["item_ids"] == [row["item_ids"][0].to_list()]
    assert served["space_id"] == [row["space_id"][0]]


def test_diversified_lists_show_more_categories_and_begin_with_the_same_item(trained, first_day, known_at):
    lists = []
    for diversity in (0.0, 0.5):
        settings = trained.model_copy(update={"recommending": Recommending(depth=60, diversity=diversity)})
        lists.append(draft_recommendations(first_day, settings, known_at).sort("user_id")["item_ids"].to_list())
    plain, diverse = lists
    assert [row[0] for row in plain] == [row[0] for row in diverse]
    shown = [np.mean([len({int(item[1:]) // 100 for item in row[:10]}) for row in found]) for found in lists]
    assert shown[0] + 1 < shown[1]
