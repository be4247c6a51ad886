"""Embedding the catalogue: each item once, in one space that stays."""

import hashlib
import shutil
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from pipeline.contracts import BEHAVIOR_EVENTS, ITEM_TEXT, ITEM_TEXT_SPACES, ITEM_VECTORS, ITEMS
from pipeline.errors import NotFound
from pipeline.evaluation.split import TimeSplit
from pipeline.features.histories import Catalogue
from pipeline.settings import Settings, Stores, Text
from pipeline.steps.item_text import embed_items, text_space
from pipeline.steps.training_data import TrainingData
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
    second = embed_items(settings, known_at + timedelta(days=1))
    assert second == first.model_copy(update={"embedded": 0, "pushed": 0})
    assert lake.version(ITEM_TEXT_SPACES) == 0


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


def test_another_machine_with_the_same_lake_is_of_the_same_space(lake, settings, tmp_path, known_at, shop):
    first = embed_items(settings, known_at)
    stores = Stores(lake=settings.lake_url, ledger=settings.ledger_url)
    elsewhere = Settings.load(home=tmp_path / "elsewhere", stores=stores)
    apply_definitions(elsewhere)
    assert text_space(lake, elsewhere) == first.space_id
    lake.overwrite(ITEMS, items(TITLES | {"z": "green tea cup"}))
    later = embed_items(elsewhere, known_at + timedelta(days=1))
    assert (later.space_id, later.embedded) == (first.space_id, 1)
    vectors = {row["item_id"]: np.array(row["vector"]) for row in lake.scan(ITEM_TEXT).collect().to_dicts()}
    assert vectors["z"] @ vectors["b"] > vectors["z"] @ vectors["c"]


def test_a_training_is_told_when_no_item_has_a_vector_of_its_encoder(lake, settings, home, known_at, shop):
    assert text_space(lake, settings) == ""
    space = embed_items(settings, known_at).space_id
    other = Settings.load(home=home, text=Text(max_tokens=4))
    with pytest.raises(NotFound, match=rf"{space}.*4 tokens.*Nothing was trained.*interest train"):
        text_space(lake, other)


def test_a_whitening_that_lies_in_the_home_is_brought_into_the_lake(lake, settings, known_at, shop):
    first = embed_items(settings, known_at)
    (row,) = lake.scan(ITEM_TEXT_SPACES).collect().to_dicts()
    mean, projection = (np.array(row[name], dtype=np.float32) for name in ("mean", "projection"))
    name = hashlib.sha256(row["encoder"].encode()).hexdigest()[:12]
    file = settings.place(f"models/item_text/whitening-{name}.safetensors")
    file.parent.mkdir(parents=True)
    arrays = {"mean": mean, "projection": projection.reshape(len(mean), -1)}
    save_file(arrays, file, metadata={"encoder": row["encoder"]})
    shutil.rmtree(lake.path(ITEM_TEXT_SPACES))
    again = embed_items(settings, known_at + timedelta(days=1))
    assert (again.space_id, again.embedded, again.version) == (first.space_id, 0, first.version)
    assert lake.scan(ITEM_TEXT_SPACES).collect().to_dicts() == [row]


def test_a_training_reads_no_text_that_was_known_only_later(lake, settings, known_at):
    split = TimeSplit.of(SINCE + timedelta(days=30), 7, 7)
    later = items({"y": "described on the first day of the test"}, split.test_start)
    lake.overwrite(ITEMS, pl.concat([items(TITLES), later]))
    space = embed_items(settings, known_at).space_id
    text, others = lake.scan(ITEM_TEXT).collect(), [table.empty() for table in (BEHAVIOR_EVENTS, ITEMS, ITEM_VECTORS)]
    data = TrainingData(split, others[0], others[1], text, others[2], space, {}, lake)
    catalogue = Catalogue.of([("a", "red tea cup", ()), ("y", "unknown", ())])
    vectors, named = data.text_vectors(catalogue)
    assert named == space and [bool(row.any()) for row in vectors] == [False, False, True, False]
