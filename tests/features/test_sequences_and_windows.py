"""Features are folds: one pass over many days is the same, to the last bit, as day by day through the tables."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as how_much
from hypothesis import strategies as st

from pipeline.contracts import BEHAVIOR_EVENTS, INTEREST_WINDOWS, ITEMS, SEQUENCE_FEATURES, UNCATEGORISED
from pipeline.features.interest_windows import extend_windows
from pipeline.features.sequences import extend_sequences

START = datetime(2026, 3, 1, tzinfo=UTC)
WEIGHTS = {"view": 1.0, "purchase": 5.0}
CATALOGUE = pl.DataFrame(
    [
        ("i1", "one", ["books"], START - timedelta(days=400)),
        ("i2", "two", ["games", "books"], START - timedelta(days=400)),
        ("i3", "three", ["film", "games", "music"], START - timedelta(days=400)),
        ("i4", "four", [], START - timedelta(days=400)),
        ("i5", "five", ["before"], START - timedelta(days=400)),
        ("i5", "five", ["after"], START + timedelta(days=3)),
    ],
    schema=ITEMS.schema,
    orient="row",
)


def log_of(rows: list[tuple[str, str, str, datetime]]) -> pl.DataFrame:
    """Events (user, item, type, time); the ids do not follow the order of the rows."""
    events = [
        (f"e{(7919 * i) % 10007:05d}", user, item, kind, when, None, when)
        for i, (user, item, kind, when) in enumerate(rows)
    ]
    return pl.DataFrame(events, schema=BEHAVIOR_EVENTS.schema, orient="row")


def one_pass(events: pl.DataFrame, length: int = 200) -> tuple[pl.DataFrame, pl.DataFrame]:
    return (
        extend_sequences(SEQUENCE_FEATURES.empty(), events, length),
        extend_windows(INTEREST_WINDOWS.empty(), events, CATALOGUE, WEIGHTS),
    )


def day_by_day(events: pl.DataFrame, length: int = 200) -> tuple[pl.DataFrame, pl.DataFrame]:
    sequences, windows = SEQUENCE_FEATURES.empty().drop("created"), INTEREST_WINDOWS.empty().drop("created")
    for _, of_day in events.sort("event_time").group_by(pl.col("event_time").dt.date(), maintain_order=True):
        sequences = pl.concat([sequences, extend_sequences(newest(sequences), of_day, length)])
        windows = pl.concat([windows, extend_windows(newest(windows), of_day, CATALOGUE, WEIGHTS)])
    return sequences.sort("user_id", "event_timestamp"), windows.sort("user_id", "event_timestamp")


def newest(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort("event_timestamp").unique("user_id", keep="last", maintain_order=True)


def as_bits(rows: pl.DataFrame) -> list[bytes]:
    return [series.explode().to_numpy().tobytes() for series in rows.select(pl.col(pl.Float64, pl.List(pl.Float64)))]


EVENT = st.tuples(
    st.sampled_from(["anna", "bo", "cy"]),
    st.sampled_from(["i1", "i2", "i3", "i4", "i5", "nowhere"]),
    st.sampled_from(["view", "purchase", "retired type"]),
    # Few moments, so that equal times and empty days happen; the microseconds make ages uneven.
    st.builds(
        lambda day, moment: START + timedelta(days=day, microseconds=moment),
        st.integers(0, 9),
        st.sampled_from([0, 1, 37_123_456_789, 86_399_999_999]),
    ),
)


@how_much(max_examples=60, deadline=None)
@given(st.lists(EVENT, min_size=1, max_size=60), st.integers(1, 12))
def test_one_pass_over_many_days_equals_day_by_day_bit_for_bit(rows, length):
    events = log_of(rows)
    for whole, folded in zip(one_pass(events, length), day_by_day(events, length), strict=True):
        assert whole.equals(folded)
        assert as_bits(whole) == as_bits(folded)


@how_much(max_examples=30, deadline=None)
@given(st.lists(EVENT, min_size=2, max_size=40), st.randoms(use_true_random=False))
def test_the_order_in_which_events_arrive_does_not_matter(rows, random):
    events = log_of(rows)
    positions = list(range(events.height))
    random.shuffle(positions)
    for one, other in zip(one_pass(events), one_pass(events[positions]), strict=True):
        assert one.equals(other)


@how_much(max_examples=30, deadline=None)
@given(st.lists(EVENT, min_size=1, max_size=40), st.integers(0, 9))
def test_no_row_knows_of_an_event_after_its_day(rows, day):
    events = log_of(rows)
    end = START + timedelta(days=day + 1)
    past = events.filter(pl.col("event_time") < end)
    for whole, without_future in zip(one_pass(events), one_pass(past), strict=True):
        assert whole.filter(pl.col("event_timestamp") < end).equals(without_future)


def test_a_sequence_holds_the_last_events_oldest_first_and_equal_times_by_event_id():
    noon = START + timedelta(hours=12)
    events = log_of([("anna", f"i{n}", "view", noon) for n in range(6)])
    row = extend_sequences(SEQUENCE_FEATURES.empty(), events, 4).row(0, named=True)
    by_id = events.sort("event_id")["item_id"].to_list()
    assert row["item_ids"] == by_id[-4:]
    assert row["num_events"] == 4
    assert row["event_times"] == [noon] * 4
    assert row["event_timestamp"] == START + timedelta(days=1) - timedelta(microseconds=1)


def test_a_million_events_of_one_user_cost_no_more_than_the_cap():
    count = 1_000_000
    events = pl.DataFrame(
        {
            "event_id": pl.int_range(count, eager=True).cast(pl.String),
            "user_id": pl.repeat("anna", count, eager=True),
            "item_id": pl.repeat("i1", count, eager=True),
            "event_type": pl.repeat("view", count, eager=True),
            "event_time": pl.Series([START]).cast(BEHAVIOR_EVENTS.schema["event_time"]).new_from_index(0, count),
        }
    )
    row = extend_sequences(SEQUENCE_FEATURES.empty(), events, 200)
    assert row["num_events"].to_list() == [200]
    assert row.estimated_size() < 20_000


def test_window_counts_are_the_decayed_weights_computed_by_hand():
    noon = timedelta(hours=12)
    events = log_of(
        [
            ("anna", "i1", "view", START + noon),
            ("anna", "i2", "purchase", START + timedelta(days=2) + noon),
        ]
    )
    rows = extend_windows(INTEREST_WINDOWS.empty(), events, CATALOGUE, WEIGHTS)
    last = rows.row(1, named=True)
    half_day = (43_200_000_000 - 1) / 86_400_000_000
    for name, half_life in (("counts_7d", 7), ("counts_30d", 30), ("counts_180d", 180)):
        books = 0.5 ** ((2 + half_day) / half_life) + 2.5 * 0.5 ** (half_day / half_life)
        games = 2.5 * 0.5 ** (half_day / half_life)
        assert last[name] == pytest.approx([books, games], rel=1e-12)
    assert last["categories"] == ["books", "games"]
    assert last["top_categories"] == ["books", "games"]
    shares = np.array(last["counts_30d"]) / sum(last["counts_30d"])
    assert last["entropy"] == pytest.approx(-(shares * np.log(shares)).sum())
    assert (last["num_events"], last["active_days"], last["days_since_previous"]) == (2, 2, 2.0)
    assert rows["days_since_previous"][0] is None
    assert rows["entropy"][0] == 0.0


def test_items_that_nobody_described_count_as_uncategorised():
    events = log_of([("anna", "nowhere", "view", START), ("anna", "i4", "view", START)])
    row = extend_windows(INTEREST_WINDOWS.empty(), events, CATALOGUE, WEIGHTS).row(0, named=True)
    assert row["categories"] == [UNCATEGORISED]


def test_an_event_counts_for_the_categories_that_its_item_had_then():
    events = log_of([("anna", "i5", "view", START), ("anna", "i5", "view", START + timedelta(days=4))])
    rows = extend_windows(INTEREST_WINDOWS.empty(), events, CATALOGUE, WEIGHTS)
    assert rows["categories"].to_list() == [["before"], ["after", "before"]]


def test_only_the_five_largest_categories_are_on_top_and_ties_go_by_name():
    names = ["g", "f", "e", "d", "c", "b", "a"]
    items = pl.DataFrame(
        [(name, name, [name], START - timedelta(days=1)) for name in names], schema=ITEMS.schema, orient="row"
    )
    events = log_of([("anna", name, "purchase" if name == "g" else "view", START) for name in names])
    row = extend_windows(INTEREST_WINDOWS.empty(), events, items, WEIGHTS).row(0, named=True)
    assert row["top_categories"] == ["g", "a", "b", "c", "d"]


def test_no_events_make_no_rows():
    for rows in one_pass(BEHAVIOR_EVENTS.empty()):
        assert rows.is_empty()
