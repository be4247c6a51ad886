"""Law 4: change, add or delete anything after t, and what a training row and a catalogue of time t hold stays."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.contracts import BEHAVIOR_EVENTS, ITEM_VECTORS, ITEMS
from pipeline.features.histories import Catalogue, Histories, microseconds_of
from pipeline.features.training_rows import TrainingRows, build_training_rows

START = datetime(2026, 1, 1, tzinfo=UTC)
CATALOGUE = Catalogue.of([(f"i{number}", f"item {number}", ()) for number in range(6)])

events = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 6), st.floats(0, 60, allow_nan=False)), min_size=1, max_size=40
)


def rows_of(rows: list[tuple[int, int, float]], max_length: int = 5) -> tuple[Histories, TrainingRows]:
    frame = pl.DataFrame(
        {
            "event_id": [f"e{position:03d}" for position in range(len(rows))],
            "user_id": [f"u{user}" for user, _, _ in rows],
            "item_id": [f"i{item}" for _, item, _ in rows],
            "event_type": ["view"] * len(rows),
            "event_time": [START + timedelta(days=day) for _, _, day in rows],
            "value": [None] * len(rows),
            "ingested_at": [START] * len(rows),
        },
        schema=BEHAVIOR_EVENTS.schema,
    )
    histories = Histories.from_events(frame, CATALOGUE, ("view",))
    return histories, build_training_rows(histories, CATALOGUE.num_items, max_length, 10, 5)


def inputs_at(histories: Histories, rows: TrainingRows, moment: datetime) -> list[tuple]:
    """What each position up to `moment` may look at: the user's events so far, and the popularity it is given."""
    found = []
    for position in np.flatnonzero(histories.times <= microseconds_of(moment)):
        first = histories.offsets[histories.owners[position]]
        so_far = slice(first, position + 1)
        popularity = rows.trend.log_counts[rows.trend_rows[position]]
        found.append(
            (
                histories.user_ids[histories.owners[position]],
                histories.items[so_far].tolist(),
                histories.times[so_far].tolist(),
                popularity.tolist(),
            )
        )
    return found


@given(before=events, after=events, other=events, cut=st.floats(1, 59))
@settings(max_examples=60, deadline=None)
def test_a_training_row_does_not_change_when_its_future_does(before, after, other, cut):
    past = [(user, item, day * cut / 60) for user, item, day in before]
    one = past + [(user, item, cut + 0.001 + day) for user, item, day in after]
    two = past + [(user, item, cut + 0.001 + day) for user, item, day in other]
    moment = START + timedelta(days=cut)
    assert inputs_at(*rows_of(one), moment) == inputs_at(*rows_of(two), moment)


@given(all_events=events)
@settings(max_examples=60, deadline=None)
def test_every_label_comes_after_its_row(all_events):
    histories, rows = rows_of(all_events)
    position = np.arange(histories.num_events)
    following = rows.next_of >= 0
    assert (rows.next_of[following] > position[following]).all()
    day = histories.times // 86_400_000_000
    for at in position:
        for ends, days in ((rows.horizon_ends, 10), (rows.period_ends, 5)):
            labels = np.arange(rows.future_starts[at], ends[at])
            assert (histories.owners[labels] == histories.owners[at]).all()
            assert (day[labels] > day[at]).all() and (day[labels] <= day[at] + days).all()


described = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5), st.integers(0, 9)), max_size=20)
"""item, day from which a description and a vector hold, what they say"""


def catalogue_of(rows: list[tuple[int, int, int]], seen: list[int], moment: datetime) -> tuple:
    """All that the catalogue of `moment` says, where these items had an event before it."""
    said = {(f"i{item}", START + timedelta(days=day)): number for item, day, number in rows}
    facts = [(item, since, number) for (item, since), number in said.items()]
    items = pl.DataFrame([(i, f"title {n}", [f"c{n}"], since) for i, since, n in facts], ITEMS.schema, orient="row")
    shown = [(i, "image", [float(n), 1.0], since) for i, since, n in facts]
    vectors = pl.DataFrame(shown, ITEM_VECTORS.schema, orient="row")
    named = [(f"e{item}", "u", f"i{item}", "view", START, None, START) for item in seen]
    events = pl.DataFrame(named, BEHAVIOR_EVENTS.schema, orient="row")
    found = Catalogue.from_frames(items, events, moment).with_vectors(vectors, moment)
    return found, {modality: matrix.tolist() for modality, matrix in found.vectors.items()}


@given(before=described, after=described, other=described, seen=st.lists(st.integers(0, 6), max_size=4, unique=True))
@settings(max_examples=60, deadline=None)
def test_a_catalogue_does_not_change_when_its_future_does_from_the_next_moment_on(before, after, other, seen):
    cut = 6
    one = before + [(item, cut + day, said) for item, day, said in after]
    two = before + [(item, cut + day, said) for item, day, said in other]
    moment = START + timedelta(days=cut)
    assert catalogue_of(one, seen, moment) == catalogue_of(two, seen, moment)


def test_this_suite_looks_at_every_input_of_a_row():
    inputs = {"histories", "trend", "trend_rows"}
    structure = {"starts", "ends"}
    labels = {"wanted", "next_of", "future_starts", "horizon_ends", "period_ends"}
    assert {field.name for field in fields(TrainingRows)} == inputs | structure | labels
