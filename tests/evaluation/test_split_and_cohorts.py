"""What is asked of whom."""

from datetime import UTC, datetime, timedelta

import numpy as np

from pipeline.evaluation.cohorts import category_drift, item_cohorts, user_cohorts
from pipeline.evaluation.split import TimeSplit, ask


def test_the_three_windows_meet_without_a_gap_and_end_at_as_of():
    split = TimeSplit.of(datetime(2026, 3, 30, tzinfo=UTC), test_days=14, validation_days=7)
    assert split.test_start == datetime(2026, 3, 16, tzinfo=UTC)
    assert split.validation_start == datetime(2026, 3, 9, tzinfo=UTC)


def test_every_event_before_as_of_is_in_exactly_one_window(histories_of, start):
    histories = histories_of({"u1": "abcd|efgh", "u2": "a|b"})
    split = TimeSplit(start - timedelta(hours=2), start, start + timedelta(hours=3))
    parts = [split.train(histories), split.validation(histories), split.test(histories)]
    assert [part.num_events for part in parts] == [2, 3, 3]  # e and f of u1 at +1 h and +2 h, b of u2; g is at as_of
    assert split.known(histories).num_events == 5


def test_seen_items_are_not_asked_for_unless_they_may_be_shown_again(histories_of, start):
    histories = histories_of({"u1": "ab|acbd"})
    questions = ask(histories.before(start), histories.between(start, start + timedelta(days=1)))
    assert questions.next_item.tolist() == [4] and questions.items.tolist() == [4, 5]
    repeated = ask(histories.before(start), histories.between(start, start + timedelta(days=1)), include_seen=True)
    assert repeated.next_item.tolist() == [2] and repeated.items.tolist() == [2, 3, 4, 5]


def test_items_outside_the_catalogue_and_users_without_history_are_counted_not_asked(histories_of, start):
    histories = histories_of({"u1": "ab|Xc", "u2": "|ab", "u3": "ab|", "u4": "a|X"})
    questions = ask(histories.before(start), histories.between(start, start + timedelta(days=1)))
    assert questions.known.user_ids.tolist() == ["u1"]
    assert (questions.outside_catalogue, questions.without_history, questions.events) == (2, 1, 5)


def test_a_repeated_item_is_one_answer(histories_of, start):
    histories = histories_of({"u1": "a|bbcb", "u2": "b|a"})
    questions = ask(histories.before(start), histories.between(start, start + timedelta(days=1)))
    assert questions.num_relevant.tolist() == [2, 1]
    assert questions.take(1, 2).items.tolist() == [2]


def test_users_are_new_light_or_heavy_and_only_one_of_them(histories_of, catalogue, start):
    scripts = {"u1": "ab", "u2": "abcde", "u3": "abcdef", "u4": "abcdefgh"}
    cohorts = user_cohorts(histories_of(scripts), catalogue, start)
    assert cohorts["new"].tolist() == [True, False, False, False]
    assert cohorts["heavy"].tolist() == [False, False, False, True]
    assert (cohorts["new"] ^ cohorts["light"] ^ cohorts["heavy"]).all()


def test_a_user_who_moves_to_another_category_drifts_and_one_who_was_away_returns(histories_of, catalogue, start):
    histories = histories_of({"u1": "abab", "u2": "abef", "u3": "aaaaaeeeee", "u4": "ababababab", "u5": "aeaeaeaeae"})
    np.testing.assert_allclose(category_drift(histories, catalogue), [0, 1, 1, 0, 0.2])
    cohorts = user_cohorts(histories, catalogue, start)
    assert cohorts["drifting"].tolist() == [False, False, True, False, False]
    assert cohorts["stable"].tolist() == [False, False, False, True, True]
    assert not cohorts["idle"].any()
    assert user_cohorts(histories, catalogue, start + timedelta(days=8))["idle"].all()
    later = user_cohorts(histories, catalogue, start + timedelta(days=28))
    assert later["returning"].tolist() == [False, False, True, True, True]


def test_half_of_all_events_are_of_head_items_and_cold_items_have_none():
    cohorts = item_cohorts(np.array([0, 0, 6, 3, 3, 0]))
    assert cohorts["head"].tolist() == [False, False, True, False, False, False]
    assert cohorts["tail"].tolist() == [False, False, False, True, True, False]
    assert cohorts["cold"][5] and not cohorts["cold"][2:5].any()
