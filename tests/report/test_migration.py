from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest

from pipeline.report.migration import REST, most_moved, population_mix, short_id


def counted(*rows: tuple[date, str, str, int]) -> pl.DataFrame:
    schema = {"period": pl.Date(), "item_id": pl.String(), "event_type": pl.String(), "rows": pl.Int64()}
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def catalogue(**categories: list[str]) -> pl.DataFrame:
    return pl.DataFrame(
        {"item_id": list(categories), "categories": list(categories.values())},
        schema={"item_id": pl.String(), "categories": pl.List(pl.String())},
    )


def test_an_item_counts_in_each_of_its_categories_with_an_equal_part_and_its_type_weighs():
    first, second = date(2026, 1, 5), date(2026, 1, 12)
    counts = counted(
        (first, "a", "view", 4), (first, "b", "buy", 1), (second, "gone", "view", 2), (second, "c", "view", 2)
    )

    mix = population_mix(counts, catalogue(a=["X", "Y"], b=["X"], c=[]), {"view": 1.0, "buy": 6.0})

    assert mix.starts == (first, second)
    assert mix.names == ("X", "uncategorised", "Y")
    np.testing.assert_allclose(mix.shares, [[0.8, 0.0, 0.2], [0.0, 1.0, 0.0]])
    assert mix.events == (5, 4)


def test_small_categories_are_summed_into_the_rest():
    items = {f"i{n}": [f"c{n}"] for n in range(9)}
    counts = counted(*((date(2026, 1, 5), f"i{n}", "view", 10 - n) for n in range(9)))

    mix = population_mix(counts, catalogue(**items), {})

    assert mix.names == (*(f"c{n}" for n in range(7)), REST)
    assert mix.has_rest
    assert mix.shares[0, -1] == pytest.approx((3 + 2) / 54)


def test_no_event_is_no_mix():
    assert population_mix(counted(), catalogue(), {}) is None


def windows(**users: tuple[dict[str, float], int]) -> pl.DataFrame:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return pl.DataFrame(
        [
            {
                "user_id": user,
                "categories": list(mix),
                "counts_30d": list(mix.values()),
                "num_events": events,
                "event_timestamp": moment,
            }
            for user, (mix, events) in users.items()
        ]
    )


def test_those_who_moved_most_come_first_and_the_inactive_do_not_come():
    before = windows(
        mover=({"X": 9.0, "Y": 1.0}, 30), same=({"X": 5.0}, 30), idle=({"X": 5.0}, 30), new=({"X": 1.0}, 2)
    )
    after = windows(
        mover=({"X": 1.0, "Z": 9.0}, 60), same=({"X": 50.0}, 60), idle=({"Y": 5.0}, 31), new=({"Y": 9.0}, 90)
    )

    moved = most_moved(before, after, ("X", "Y", REST), how_many=5)

    assert [mover.label for mover in moved] == [short_id("mover"), short_id("same")]
    assert moved[0].distance == pytest.approx(0.9)
    assert moved[0].names == ("X", "Y", REST)
    assert moved[0].before == pytest.approx((0.9, 0.1, 0.0))
    assert moved[0].after == pytest.approx((0.1, 0.0, 0.9))
    assert moved[1].distance == pytest.approx(0.0)


def test_a_user_whose_counts_have_decayed_to_nothing_is_left_out():
    before, after = windows(u=({"X": 0.0}, 30)), windows(u=({"X": 1.0}, 60))

    assert most_moved(before, after, ("X",), how_many=5) == []


@pytest.mark.parametrize("user", ["7", "196", "a@b.example", "<b>x</b>", "\x07\u202ex" * 9, "\ud800"])
def test_a_short_id_is_no_id_and_tells_users_apart(user):
    assert short_id(user) != user
    assert len(user) < 3 or user not in short_id(user)
    assert short_id(user) != short_id(user + "1")
    assert all(c.isalnum() or c == "…" for c in short_id(user))
