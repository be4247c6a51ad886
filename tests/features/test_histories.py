"""Histories and catalogues against hand-written cases."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from pipeline.contracts import BEHAVIOR_EVENTS, ITEM_VECTORS, ITEMS, SEQUENCE_FEATURES
from pipeline.features.histories import UNKNOWN, Catalogue, Histories, microseconds_of


def day(number: int) -> datetime:
    return datetime(2026, 1, number, tzinfo=UTC)


EVENTS = pl.DataFrame(
    {
        "event_id": ["d", "a", "c", "b", "e"],
        "user_id": ["u2", "u2", "u1", "u1", "u2"],
        "item_id": ["i3", "i1", "i2", "i1", "nowhere"],
        "event_type": ["view", "view", "cart", "stare", "view"],
        "event_time": [day(2), day(2), day(3), day(3), day(5)],
        "value": [None] * 5,
        "ingested_at": [day(9)] * 5,
    },
    schema=BEHAVIOR_EVENTS.schema,
)
ITEM_ROWS = pl.DataFrame(
    {
        "item_id": ["i2", "i1", "i1", "i9"],
        "title": ["two", "one", "one, renamed later", "nine"],
        "categories": [["x", "y"], ["x"], ["z"], []],
        "valid_from": [day(1), day(1), day(8), day(7)],
    },
    schema=ITEMS.schema,
)
CATALOGUE = Catalogue.of([("i3", "three", ()), ("i1", "one", ("x",)), ("i2", "two", ("x", "y"))])


def test_items_are_sorted_after_padding_and_the_unknown_item():
    assert CATALOGUE.item_ids == ("", "", "i1", "i2", "i3")
    assert CATALOGUE.index_of(["i2", "i1", "gone", ""]).tolist() == [3, 2, UNKNOWN, UNKNOWN]
    assert CATALOGUE.category_names == ("uncategorised", "x", "y")
    assert CATALOGUE.category_matrix().tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0.5, 0.5], [1, 0, 0]]


def test_a_catalogue_knows_neither_later_items_nor_later_descriptions():
    catalogue = Catalogue.from_frames(ITEM_ROWS, EVENTS, as_of=day(6))
    assert catalogue.item_ids[2:] == ("i1", "i2", "i3", "nowhere")
    assert catalogue.titles[2:] == ("one", "two", "unknown", "unknown")
    at_the_moment = Catalogue.from_frames(ITEM_ROWS, EVENTS, as_of=day(8))
    assert at_the_moment.titles[2] == "one", "renamed from that moment on"
    later = Catalogue.from_frames(ITEM_ROWS, EVENTS, as_of=day(9))
    assert later.item_ids[2:] == ("i1", "i2", "i3", "i9", "nowhere")
    assert later.titles[2] == "one, renamed later"


def test_a_catalogue_knows_no_later_vectors_and_none_of_an_older_encoder():
    rows = pl.DataFrame(
        [("i1", "image", [1.0, 2.0], day(1)), ("i1", "image", [3.0, 4.0], day(5)), ("i2", "image", [9.0], day(1)),
         ("i3", "image", [5.0, 6.0], day(7)), ("gone", "image", [7.0, 8.0, 9.0], day(6)),
         ("i2", "audio", [1.0], day(2))],
        schema=ITEM_VECTORS.schema, orient="row",
    )
    found = CATALOGUE.with_vectors(rows, day(6)).vectors
    assert list(found) == ["audio", "image"]
    assert found["image"].tolist() == [[0, 0], [0, 0], [3, 4], [0, 0], [0, 0]]
    assert found["audio"].tolist() == [[0], [0], [0], [1], [0]]
    assert CATALOGUE.with_vectors(rows, day(7)).vectors["image"][4].tolist() == [0, 0]
    assert CATALOGUE.with_vectors(rows, day(8)).vectors["image"][4].tolist() == [5, 6]
    assert CATALOGUE.vectors == {}


def test_events_are_ordered_by_user_time_and_event_id():
    histories = Histories.from_events(EVENTS, CATALOGUE, ("view", "cart"))
    assert histories.user_ids.tolist() == ["u1", "u2"]
    assert histories.offsets.tolist() == [0, 2, 5]
    assert histories.items.tolist() == [2, 3, 2, 4, UNKNOWN]
    assert histories.types.tolist() == [0, 2, 1, 1, 1]
    assert histories.times[0] == microseconds_of(day(3))
    assert histories.owners.tolist() == [0, 0, 1, 1, 1]


def test_cutting_keeps_users_and_the_order_of_their_events():
    histories = Histories.from_events(EVENTS, CATALOGUE, ("view", "cart"))
    assert histories.before(day(3)).lengths.tolist() == [0, 2]
    assert histories.between(day(3), day(5)).items.tolist() == [2, 3]
    assert histories.last(1).items.tolist() == [3, UNKNOWN]
    assert histories.before(day(3)).with_events().user_ids.tolist() == ["u2"]
    assert histories.take(np.array([False, True])).items.tolist() == [2, 4, UNKNOWN]
    assert [part.tolist() for part in histories.user(0)[:2]] == [[2, 3], [0, 2]]


@pytest.mark.parametrize("number", [1, 3, 5, 9])
def test_what_is_cut_apart_joins_to_the_whole(number):
    whole = Histories.from_events(EVENTS, CATALOGUE, ("view", "cart"))
    joined = whole.before(day(number)).with_events().followed_by(whole.between(day(number), day(20)).with_events())
    for name in ("user_ids", "offsets", "items", "types", "times"):
        assert np.array_equal(getattr(joined, name), getattr(whole, name)), name


def test_sequence_features_give_the_same_histories_as_events():
    from_events = Histories.from_events(EVENTS, CATALOGUE, ("view", "cart"))
    ordered = EVENTS.sort("user_id", "event_time", "event_id").group_by("user_id", maintain_order=True)
    rows = ordered.agg(
        pl.col("item_id").alias("item_ids"), pl.col("event_type").alias("event_types"),
        pl.col("event_time").alias("event_times"), pl.len().cast(pl.Int64).alias("num_events"),
    ).with_columns(pl.lit(day(6)).alias("event_timestamp"), pl.lit(day(9)).alias("created"))
    stale = rows.with_columns(pl.col("item_ids").list.head(1), pl.col("event_types").list.head(1),
                              pl.col("event_times").list.head(1), pl.lit(day(4)).alias("event_timestamp"))
    rows = pl.concat([rows, stale]).select(pl.col(name).cast(dtype) for name, dtype in SEQUENCE_FEATURES.schema.items())
    found = Histories.from_sequences(rows, CATALOGUE, ("view", "cart"))
    for name in ("user_ids", "offsets", "items", "types", "times"):
        assert np.array_equal(getattr(found, name), getattr(from_events, name)), name


def test_nothing_in_gives_nothing_out():
    histories = Histories.from_events(BEHAVIOR_EVENTS.empty(), CATALOGUE, ("view",))
    assert (histories.num_users, histories.num_events) == (0, 0)
    assert histories.before(day(3)).last(2).with_events().num_users == 0
    assert Histories.from_sequences(SEQUENCE_FEATURES.empty(), CATALOGUE, ("view",)).num_users == 0
