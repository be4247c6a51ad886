"""A comparison names every difference once, and says how large it is."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contracts import LONG_TERM_INTEREST, SEQUENCE_FEATURES
from pipeline.serving.parity import compare, cosine, edit_distance

MOMENT = datetime(2026, 3, 1, 23, 59, 59, 999999, tzinfo=UTC)


def vectors(**vector_of: list[float]) -> pl.DataFrame:
    facts = {"space_id": "s", "model_version": 1, "model_cutoff": MOMENT, "event_timestamp": MOMENT, "created": MOMENT}
    return pl.DataFrame([{"user_id": u, "vector": v} | facts for u, v in vector_of.items()], LONG_TERM_INTEREST.schema)


def sequences(**items_of: list[str]) -> pl.DataFrame:
    rows = [
        {
            "user_id": user,
            "item_ids": items,
            "event_types": ["view"] * len(items),
            "event_times": [MOMENT] * len(items),
            "num_events": len(items),
            "event_timestamp": MOMENT,
            "created": MOMENT,
        }
        for user, items in items_of.items()
    ]
    return pl.DataFrame(rows, SEQUENCE_FEATURES.schema)


def as_served(frame: pl.DataFrame) -> pl.DataFrame:
    """Without `created`, times of features to the second, rows in another order."""
    cut = pl.selectors.datetime() - pl.selectors.by_name("event_timestamp")
    frame = frame.drop("created").reverse().with_columns(cut.dt.truncate("1s"))
    if "event_times" in frame.columns:
        frame = frame.with_columns(pl.col("event_times").list.eval(pl.element().dt.truncate("1s")))
    return frame


def test_what_is_served_as_feast_serves_it_is_equal():
    two, one = vectors(a=[0.6, 0.8], b=[1.0, 0.0]), sequences(a=[])
    for table, frame in ((LONG_TERM_INTEREST, two), (SEQUENCE_FEATURES, one)):
        found = compare(table, "user_id", frame, as_served(frame))
        assert (found.sampled, found.equal) == (frame.height, frame.height)
        assert (found.differing, found.differing_share) == ((), 0.0)
        assert found.largest_edit_distance is found.least_cosine is None


def test_missing_extra_and_mismatched_are_told_apart():
    offline = vectors(a=[1.0, 0.0], b=[1.0, 0.0], c=[1.0, 0.0])
    served = as_served(vectors(b=[0.0, 1.0], c=[1.0, 0.0], d=[1.0, 0.0]))
    found = compare(LONG_TERM_INTEREST, "user_id", offline, served)
    assert (found.sampled, found.equal, found.mismatched, found.missing, found.extra) == (4, 1, 1, 1, 1)
    assert found.differing == ("a", "b", "d")
    assert (found.mismatched_columns, found.least_cosine) == (("vector",), 0.0)
    assert found.differing_share == 0.75


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("space_id", pl.lit("other")),
        ("model_version", pl.lit(2, pl.Int64)),
        ("model_cutoff", pl.col("model_cutoff") - timedelta(seconds=1)),
        ("event_timestamp", pl.col("event_timestamp") - timedelta(microseconds=1)),
        ("vector", pl.lit([1.0, 1e-7], pl.List(pl.Float32))),
        ("vector", pl.lit([1.0], pl.List(pl.Float32))),
    ],
)
def test_one_changed_value_is_found_in_its_column(column, value):
    offline = vectors(a=[1.0, 0.0])
    found = compare(LONG_TERM_INTEREST, "user_id", offline, as_served(offline).with_columns(value.alias(column)))
    assert (found.mismatched, found.mismatched_columns) == (1, (column,))


def test_sequences_are_told_apart_by_their_edit_distance():
    offline, served = sequences(a=["i1", "i2", "i3", "i4"], b=["i1"]), sequences(a=["i2", "i3", "i4", "i5"], b=["i1"])
    found = compare(SEQUENCE_FEATURES, "user_id", offline, as_served(served))
    assert (found.mismatched, found.mismatched_columns, found.largest_edit_distance) == (1, ("item_ids",), 0.5)


def test_nothing_on_both_sides_is_no_difference():
    empty = LONG_TERM_INTEREST.empty()
    assert compare(LONG_TERM_INTEREST, "user_id", empty, empty.drop("created")).differing_share == 0.0


words = st.lists(st.sampled_from("abc"), max_size=6)


@given(words, words, words)
def test_the_edit_distance_is_a_distance(one, other, third):
    def steps(a, b):
        return round(edit_distance(a, b) * max(len(a), len(b)))

    assert (edit_distance(one, other) == 0) == (one == other)
    assert edit_distance(one, other) == edit_distance(other, one) <= 1
    assert steps(one, third) <= steps(one, other) + steps(other, third)


def test_the_cosine_of_what_has_no_angle_is_zero():
    assert cosine([0.0, 0.0], [1.0, 0.0]) == cosine([1.0], [1.0, 0.0]) == 0.0
    assert cosine([3.0, 4.0], [6.0, 8.0]) == pytest.approx(1.0)
    assert cosine([1.0, 0.0], [-2.0, 0.0]) == -1.0
