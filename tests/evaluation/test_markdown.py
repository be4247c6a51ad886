"""Tables in Markdown: every row is as wide as its head, and what is not known is said in words."""

from pipeline.evaluation.markdown import change_cell, change_table, markdown_table, mean_cell

KNOWN = {"mean": 0.25, "low": 0.1, "high": 0.5, "change": 0.5, "change_low": -0.25, "change_high": 1.0}
UNKNOWN = {"mean": None, "low": None, "high": None, "change": None, "change_low": None, "change_high": None}


def test_a_table_has_a_line_for_its_head_and_one_for_each_row():
    assert markdown_table(["a", "b"], [["1", "2"]]) == ["| a | b |", "|---|---|", "| 1 | 2 |"]


def test_every_metric_has_its_mean_and_its_change():
    head, rule, *rows = change_table([{"model": "ease", "m": KNOWN}, {"model": "popularity", "m": UNKNOWN}], ["m"])
    assert (head, rule) == ("| model | m | change |", "|---|---|---|")
    assert rows == [
        "| ease | 0.2500 [0.1000, 0.5000] | +50% [-25%, +100%] |",
        "| popularity | no value | open |",
    ]


def test_a_bound_that_is_not_known_is_open_and_an_interval_has_the_digits_asked_for():
    assert change_cell(KNOWN | {"change_high": None}) == "+50% [-25%, open]"
    assert change_cell({"mean": 0.25}) == "open"
    assert mean_cell(KNOWN, digits=1) == "0.2 [0.1, 0.5]"
