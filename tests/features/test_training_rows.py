"""Training rows against a history small enough to count by hand."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from pipeline.features.histories import Histories, microseconds_of
from pipeline.features.training_rows import PopularityTrend, build_training_rows, popularity_at

MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)


def histories(*users: list[tuple[int, float]]) -> Histories:
    """One list of (item, day) for each user."""
    lengths = [len(user) for user in users]
    flat = [event for user in users for event in user]
    return Histories(
        user_ids=np.array([f"u{i}" for i in range(len(users))], dtype=object),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.array([item for item, _ in flat], dtype=np.int32),
        types=np.ones(len(flat), dtype=np.int16),
        times=np.array([microseconds_of(MIDNIGHT + timedelta(days=day)) for _, day in flat], dtype=np.int64),
        event_types=("view",),
    )


TWO = histories([(2, 0.1), (3, 0.5), (4, 1.2), (2, 8.0), (5, 40.0)], [(3, 0.2), (3, 20.0)])


def test_windows_cover_every_event_once_and_end_at_the_newest():
    rows = build_training_rows(TWO, num_items=6, max_length=2, horizon_days=7, period_days=7)
    covered = sorted(i for start, end in zip(rows.starts, rows.ends, strict=True) for i in range(start, end))
    assert covered == list(range(7))
    assert set(zip(rows.starts.tolist(), rows.ends.tolist(), strict=True)) == {(3, 5), (1, 3), (0, 1), (5, 7)}
    assert rows.next_of.tolist() == [1, 2, 3, 4, -1, 6, -1]


def test_the_future_begins_on_the_next_day_and_ends_with_the_horizon():
    rows = build_training_rows(TWO, num_items=6, max_length=5, horizon_days=7, period_days=40)
    assert rows.future_starts.tolist() == [2, 2, 3, 4, 5, 6, 7]
    assert rows.horizon_ends.tolist() == [3, 3, 4, 4, 5, 6, 7]      # day 8.0 is 7 days after day 0's end: left out
    assert rows.period_ends.tolist() == [5, 5, 5, 5, 5, 7, 7]


def test_only_first_events_with_an_item_are_asked_for_where_new_items_are():
    rows = build_training_rows(TWO, num_items=6, max_length=5, horizon_days=7, period_days=7, new_items_only=True)
    assert rows.wanted[:-1].tolist() == [0, 1, 2, 4, 5]             # neither the second 2 nor the other user's second 3
    assert rows.next_of.tolist() == [1, 2, 4, 4, -1, -1, -1]        # a repeat is passed over


def test_a_new_item_after_known_ones_is_asked_for_once_where_validation_begins():
    again = histories([(2, 0.1), (3, 0.5), (2, 1.0), (3, 9.0), (4, 9.5)])
    rows = build_training_rows(again, 6, 5, 7, 7, labels_from=MIDNIGHT + timedelta(days=9), new_items_only=True)
    assert rows.next_of.tolist() == [-1, -1, 4, 4, -1]


def test_popularity_counts_only_what_came_before_the_day():
    trend = PopularityTrend.of(TWO, 6)
    counts = np.expm1(trend.log_counts).round().astype(int)         # [days, 2, items]
    assert counts[0].sum() == 0
    assert counts[1, 0].tolist() == [0, 0, 1, 2, 0, 0]
    assert counts[8, 0].tolist() == [0, 0, 0, 0, 1, 0]              # day 0 has left the 7 days, day 8 has not begun
    assert counts[8, 1].tolist() == [0, 0, 1, 2, 1, 0]
    assert trend.rows_of(TWO.times).tolist() == [0, 0, 1, 8, 40, 0, 20]


@pytest.mark.parametrize("days", [0, 1, 8, 9, 21, 41])
def test_popularity_at_a_midnight_is_the_trend_of_that_day(days):
    trend = PopularityTrend.of(TWO, 6)
    assert np.array_equal(popularity_at(TWO, 6, MIDNIGHT + timedelta(days=days)), trend.log_counts[days])


def test_long_steps_of_a_large_catalogue_never_look_ahead(monkeypatch):
    monkeypatch.setattr("pipeline.features.training_rows.MAX_TREND_CELLS", 6 * 2 * 10)
    trend = PopularityTrend.of(TWO, 6)
    assert trend.step == 5 * 86_400_000_000 and len(trend.log_counts) < 12
    at_step_1 = np.expm1(trend.log_counts[1]).round().astype(int)    # begins on day 5
    assert at_step_1[1].tolist() == [0, 0, 1, 2, 1, 0]
    began = trend.first + trend.rows_of(TWO.times) * trend.step
    assert (began <= TWO.times).all()
    for step, counts in enumerate(trend.log_counts):                # the windows are not stretched to whole steps
        assert np.array_equal(popularity_at(TWO, 6, MIDNIGHT + timedelta(days=5 * step)), counts)


def test_validation_rows_have_labels_of_their_period_only():
    first = MIDNIGHT + timedelta(days=5)
    rows = build_training_rows(TWO, 6, max_length=3, horizon_days=60, period_days=60, labels_from=first)
    assert rows.next_of.tolist() == [-1, -1, 3, 4, -1, 6, -1]
    has_future = rows.horizon_ends > rows.future_starts
    assert has_future.tolist() == [False, False, True, True, False, True, False]
    assert set(zip(rows.starts.tolist(), rows.ends.tolist(), strict=True)) == {(2, 5), (5, 7)}


def test_no_events_make_no_rows():
    rows = build_training_rows(histories(), 6, 3, 60, 60)
    assert rows.num_rows == 0
