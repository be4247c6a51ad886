"""Embedding the catalogue: each item once, in one space that stays."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from pipeline.contracts import ITEM_TEXT, ITEMS
from pipeline.settings import Settings, Text
from pipeline.steps.item_text import embed_items, whitening_path
from pipeline.stores.feature_store import apply_definitions, open_feature_store

SINCE = datetime(2025, 1, 1, tzinfo=UTC)
TITLES = {
    "a": "red tea cup", "b": "blue tea cup", "c": "garden chair", "d": "wooden table", "e": "wool scarf",
    "f": "silk scarf", "g": "space film", "h": "crime film",
}


def items(titles: dict[str, str], since: datetime = SINCE) -> pl.DataFrame:
    rows = [(item, title, ["goods"] if item < "e" else [], since) for item, title in titles.items()]
    return pl.DataFrame(rows, schema=ITEMS.schema, orient="row")


@pytest.fixture(autouse=True)
def applied(settings) -> None:
    apply_definitions(settings)


@pytest.fixture
def shop(lake) -> None:
    lake.overwrite(ITEMS, items(TITLES))


def test_every_item_gets_one_unit_vector_of_one_space(lake, settings, known_at, shop):
    done = embed_items(settings, known_at)
    rows = lake.scan(ITEM_TEXT).collect()
    assert (done.items, done.embedded, done.version) == (8, 8, 0)
    assert rows["item_id"].to_list() == sorted(TITLES) and set(rows["space_id"]) == {done.space_id}
    vectors = np.array(rows["vector"].to_list())
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert set(rows["event_timestamp"]) == {SINCE} and set(rows["created"]) == {known_at}


def test_a_second_run_writes_nothing(lake, settings, known_at, shop):
    first = embed_items(settings, known_at)
    kept = whitening_path(settings).read_bytes()
    second = embed_items(settings, known_at + timedelta(days=1))
    assert second == first.model_copy(update={"embedded": 0, "pushed": 0})
    assert whitening_path(settings).read_bytes() == kept


def test_the_vectors_are_served_also_after_a_run_that_died_before_its_push(lake, settings, known_at, shop):
    embed_items(settings, known_at)
    settings.online_path.unlink()
    apply_definitions(settings)
    assert embed_items(settings, known_at + timedelta(days=1)).pushed == 8
    features = ["item_text:vector", "item_text:space_id"]
    served = open_feature_store(settings).get_online_features(features, [{"item_id": "a"}]).to_dict()
    (row,) = lake.scan(ITEM_TEXT).filter(pl.col("item_id") == "a").collect().to_dicts()
    assert served["space_id"] == [row["space_id"]]
    assert np.allclose(served["vector"][0], row["vector"])


def test_a_later_item_joins_the_same_space_and_moves_no_other(lake, settings, known_at, shop):
    first = embed_items(settings, known_at)
    before = lake.scan(ITEM_TEXT).collect()
    lake.overwrite(ITEMS, items(TITLES | {"z": "green tea cup"}))
    second = embed_items(settings, known_at + timedelta(days=1))
    assert (second.embedded, second.items, second.space_id) == (1, 9, first.space_id)
    after = lake.scan(ITEM_TEXT).collect()
    assert after.filter(pl.col("item_id") != "z").sort("item_id").equals(before.sort("item_id"))
    vectors = dict(zip(after["item_id"], np.array(after["vector"].to_list()), strict=True))
    assert vectors["z"] @ vectors["b"] > vectors["z"] @ vectors["c"]


def test_a_later_description_does_not_change_what_was_known(lake, settings, known_at, shop):
    embed_items(settings, known_at)
    before = lake.scan(ITEM_TEXT).collect()
    lake.overwrite(ITEMS, pl.concat([items(TITLES), items({"a": "renamed"}, SINCE + timedelta(days=9))]))
    assert embed_items(settings, known_at).embedded == 0
    assert lake.scan(ITEM_TEXT).collect().equals(before)


def test_an_item_that_is_not_yet_valid_waits(lake, settings, known_at):
    lake.overwrite(ITEMS, pl.concat([items(TITLES), items({"y": "from next year on"}, known_at + timedelta(days=1))]))
    assert embed_items(settings, known_at).items == 8
    assert embed_items(settings, known_at + timedelta(days=2)).embedded == 1


def test_another_encoder_setting_has_a_space_of_its_own_beside_the_first(lake, settings, home, known_at, shop):
    first = embed_items(settings, known_at)
    other = Settings.load(home=home, text=Text(max_tokens=4))
    second = embed_items(other, known_at)
    assert second.space_id != first.space_id and second.embedded == 8
    assert lake.scan(ITEM_TEXT).collect().height == 16
    assert embed_items(settings, known_at).embedded == 0


def test_no_item_is_no_trouble(settings, known_at):
    done = embed_items(settings, known_at)
    assert (done.space_id, done.items, done.embedded, done.version) == ("", 0, 0, None)
