import itertools
import re
from datetime import date, timedelta

import numpy as np
import pytest

from pipeline.report.plots import Bars, _date_ticks, _spread, bars_over_days, nice_ceiling, number, percent, stream


def days_from(first: date, count: int) -> list[date]:
    return [first + timedelta(days=i) for i in range(count)]


def test_a_short_range_has_a_bar_a_day_and_a_gap_where_nothing_came():
    drawn = bars_over_days("k", "t", [date(2026, 1, 1), date(2026, 1, 4)], Bars("events", [5, 10]))

    assert re.findall(r"<title>(day [^<]*)</title>", drawn) == ["day 2026-01-01: 5", "day 2026-01-04: 10"]
    assert [float(y) for y in re.findall(r'<rect [^>]*height="([\d.]+)"', drawn)] == [75.0, 150.0]


def test_a_long_range_is_summed_into_weeks_from_monday():
    days = days_from(date(2026, 1, 1), 130)  # a Thursday

    drawn = bars_over_days("k", "t", days, Bars("events", [1] * 130))

    titles = re.findall(r"<title>(week[^<]*)</title>", drawn)
    assert titles[:2] == ["week from 2025-12-29: 4", "week from 2026-01-05: 7"]
    assert "Sum 130" in drawn


def test_a_stream_fills_the_height_and_names_every_band():
    shares = np.array([[0.5, 0.5], [0.25, 0.75]])

    drawn = stream("k", "t", days_from(date(2026, 1, 5), 2), ("a", "b & c"), shares, has_rest=False)

    assert 'd="M0.0,0.0L1000.0,0.0L1000.0,90.0L0.0,180.0Z"' in drawn
    assert 'd="M0.0,180.0L1000.0,90.0L1000.0,360.0L0.0,360.0Z"' in drawn
    assert "b &amp; c from 50 % to 75 %" in drawn


def test_one_period_alone_is_drawn_as_a_flat_stream():
    drawn = stream("k", "t", [date(2026, 1, 5)], ("a",), np.array([[1.0]]), has_rest=False)

    assert 'd="M0.0,0.0L1000.0,0.0L1000.0,360.0L0.0,360.0Z"' in drawn


@pytest.mark.parametrize("places", [[1, 2, 3], [96, 97, 98, 99], [50, 50.1, 97, 98]])
def test_labels_at_the_edge_are_never_nearer_than_they_can_be_read(places):
    moved = _spread(places)

    assert all(after - before >= 5.5 - 1e-9 for before, after in itertools.pairwise(moved))
    assert moved[-1] <= 98


def test_ticks_are_days_then_months_then_years():
    assert [label for _, label in _date_ticks(date(2026, 1, 1), date(2026, 1, 15))][:2] == ["1 Jan", "3 Jan"]
    assert [label for _, label in _date_ticks(date(1997, 9, 20), date(1998, 4, 22))] == [
        "Oct 1997",
        "Nov",
        "Dec",
        "Jan 1998",
        "Feb",
        "Mar",
        "Apr",
    ]
    assert len(_date_ticks(date(1990, 1, 1), date(2020, 1, 1))) <= 7


@pytest.mark.parametrize(("value", "ceiling"), [(0, 1), (1, 1), (3, 4), (41, 50), (99, 100), (8001, 10000)])
def test_an_axis_ends_at_a_round_number_that_holds_everything(value, ceiling):
    assert nice_ceiling(value) == ceiling


def test_a_small_share_is_not_shown_as_nothing():
    assert [percent(x) for x in (0, 0.0001, 0.0561, 0.5)] == ["0 %", "< 0.1 %", "5.6 %", "50 %"]
    assert [number(x) for x in (1234567, 0.5)] == ["1,234,567", "0.5"]
