"""How a log is cut for a benchmark, checked by hand."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from pipeline.benchmark.questions import LEAVE_ONE_OUT, TIME, split_log
from pipeline.contracts import ITEM_VECTORS
from pipeline.errors import BadMapping, BadSetting, ContractViolation
from pipeline.evaluation.split import ask


def items_of(split, part, user: str) -> list[str]:
    position = list(part.user_ids).index(user)
    return [split.catalogue.item_ids[item] for item in part.user(position)[0]]


def test_leave_one_out_trains_on_all_but_the_last_two_and_asks_for_the_last(log_of):
    log = log_of([
        "x,a,2026-01-01", "x,b,2026-01-02", "x,a,2026-01-03", "x,c,2026-01-04", "x,d,2026-01-05",
        "y,a,2026-01-01", "y,b,2026-01-09",
    ], ["d,the last one,kind"])
    split = split_log(log, LEAVE_ONE_OUT, 0.9)
    assert items_of(split, split.train, "x") == ["a", "b"]  # the second `a` is no news
    assert items_of(split, split.validation, "x") == ["c"] and items_of(split, split.test, "x") == ["d"]
    assert items_of(split, split.known, "x") == ["a", "b", "c"]
    assert items_of(split, split.train, "y") == ["a", "b"]  # too few to be asked
    asked = ask(split.known, split.test)
    assert list(asked.known.user_ids) == ["x"] and split.catalogue.item_ids[asked.next_item[0]] == "d"
    assert split.fitted is split.train


def test_a_split_by_time_puts_the_moment_of_the_border_into_the_test(log_of):
    days = [f"x,i{day},2026-01-{day:02d}" for day in range(1, 12)]
    split = split_log(log_of(days), TIME, 0.8)  # quantile .8 of 1..11 is the 9th
    assert split.test_start.day == 9 and split.validation_start.day == 9 - 1
    assert items_of(split, split.train, "x") == [f"i{day}" for day in range(1, 8)]
    assert items_of(split, split.validation, "x") == ["i8"]
    assert split.test.num_events == 3 and (split.test.items == 1).all()  # unknown: without text nobody can name them


def test_described_items_without_an_event_can_be_asked_for(log_of):
    days = [f"x,i{day},2026-01-{day:02d}" for day in range(1, 12)]
    split = split_log(log_of(days, ["i11,the eleventh,kind", "i77,never seen,kind", "i78,,"]), TIME, 0.8)
    assert items_of(split, split.test, "x")[-1] == "i11"
    assert "i77" in split.catalogue.item_ids and "i78" not in split.catalogue.item_ids


def test_an_item_of_which_only_a_picture_is_known_can_be_asked_for(log_of):
    log = log_of([f"u{n},{n % 3},2026-01-{n + 1:02d}" for n in range(20)], ["0,,", "7,,", "8,,"])
    shown = pl.DataFrame([("7", "image", [1.0, 2.0], None)], schema=ITEM_VECTORS.schema, orient="row")
    split = split_log(replace(log, vectors=shown), "time", 0.8)
    assert split.catalogue.item_ids[2:] == ("0", "1", "2", "7")
    assert split.catalogue.vectors["image"].tolist() == [[0, 0]] * 5 + [[1, 2]]


def test_equal_times_keep_the_order_of_the_file(log_of):
    log = log_of(["x,c,2026-01-01", "x,a,2026-01-01", "x,b,2026-01-01", "x,d,2026-01-01"])
    split = split_log(log, LEAVE_ONE_OUT, 0.9)
    assert items_of(split, split.known, "x") == ["c", "a", "b"]
    assert np.array_equal(split.test.items, [1])


def test_what_is_left_out_is_counted(log_of):
    log = log_of(["x,a,2026-01-01", "x,a,2026-01-01", ",b,2026-01-02", "y,b,yesterday", "x,b,2026-01-02"])
    assert (log.rows, log.duplicates, sum(log.refused.values()), log.events.height) == (5, 1, 2, 2)


def test_every_misuse_is_named(log_of):
    with pytest.raises(BadMapping, match="no row has a plausible time"):
        log_of(["x,a,someday"])
    with pytest.raises(ContractViolation, match="leaves no event for validation"):
        split_log(log_of(["x,a,2026-01-01", "y,a,2026-01-02"]), LEAVE_ONE_OUT, 0.9)
    with pytest.raises(BadSetting, match=r"from 0\.1 to 0\.99"):
        split_log(log_of(["x,a,2026-01-01"]), TIME, 1.5)
