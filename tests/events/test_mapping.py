"""A mapping is typed: a mistake in it is told in one line, and what it says happens to every row."""

from datetime import UTC, datetime

import polars as pl
import pytest

from pipeline.errors import BadMapping
from pipeline.events.landing import hashed_id, landing_rows
from pipeline.events.mapping import EventsFile, load_mapping, preset_names

KNOWN_AT = datetime(2026, 1, 1, tzinfo=UTC)
SMALLEST = {
    "columns": {"user_id": "u", "item_id": "i", "event_time": "t"},
    "event_type": {"constant": "view"},
}


def landed(source: dict | pl.DataFrame, **changes) -> pl.DataFrame:
    frame = source if isinstance(source, pl.DataFrame) else pl.DataFrame(source)
    mapping = EventsFile.model_validate({**SMALLEST, **changes})
    return landing_rows(frame, mapping, "log.csv", KNOWN_AT).rows


def times(values: list, **shape) -> list[str]:
    source = pl.DataFrame({"u": ["1"] * len(values), "i": ["2"] * len(values), "t": values})
    return landed(source, time=shape)["event_time"].to_list()


@pytest.mark.parametrize("name", ["movielens", "movielens-100k", "online-retail", "otto"])
def test_every_preset_is_found_by_its_name(name):
    assert name in preset_names()
    assert load_mapping(name).description


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("- a\n", "not a mapping"),
        ("events: [", "not YAML"),
        ("events: {}", "`events.columns`: Field required"),
        ("events: !!python/object/apply:os.getcwd []", "not YAML"),
        ("evnts: {}", "`evnts`: Extra inputs"),
        ("events: {columns: {user_id: u, item_id: i, event_time: t}, event_type: {}}", "give `constant`"),
        (
            "events: {columns: {user_id: u, item_id: i, event_time: t}, event_type: {constant: v}, time: {zone: Mars}}",
            "'Mars' is not a time zone",
        ),
        (
            "events: {columns: {user_id: u, item_id: i, event_time: t}, event_type: {constant: v}, encoding: utf-9}",
            "'utf-9' is not an encoding",
        ),
        (
            "events: {columns: {user_id: u, item_id: i, event_time: t}, event_type: {constant: v}, "
            "refuse: [{reason: r, when: [{column: u, prefix: a, empty: true}]}]}",
            "exactly one of",
        ),
    ],
)
def test_a_bad_mapping_is_told_in_one_line(tmp_path, text, says):
    path = tmp_path / "mapping.yaml"
    path.write_text(text)
    with pytest.raises(BadMapping) as refused:
        load_mapping(path)
    assert says in str(refused.value) and str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(BadMapping, match="movielens, movielens-100k, online-retail, otto"):
        load_mapping("movielense")


def test_a_column_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(BadMapping, match=r"log.csv has no column 't'.* It has: u, i, when"):
        landed({"u": ["1"], "i": ["2"], "when": ["3"]})


def test_a_type_suffix_in_the_header_is_no_part_of_the_name():
    plain = {"u": ["1"], "i": ["2"], "t": ["2026-01-01"]}
    typed = {"u:token": ["1"], "i:token": ["2"], "t:float": ["2026-01-01"]}
    pinned = {"columns": {**SMALLEST["columns"], "event_id": {"hash_of": ["u", "i", "t"]}}}
    assert landed(typed, **pinned).equals(landed(plain, **pinned))


@pytest.mark.parametrize(
    ("value", "shape", "expected"),
    [
        ("881250949", {"unit": "s"}, "1997-12-04T15:55:49.000000Z"),
        ("881250949.25", {"unit": "s"}, "1997-12-04T15:55:49.250000Z"),
        ("1659304800025", {"unit": "ms"}, "2022-07-31T22:00:00.025000Z"),
        (1659304800025, {"unit": "ms"}, "2022-07-31T22:00:00.025000Z"),
        ("2026-03-01T05:06:07.123456Z", {}, "2026-03-01T05:06:07.123456Z"),
        ("2026-03-01 05:06:07", {}, "2026-03-01T05:06:07.000000Z"),
        ("2026-03-01T05:06:07+02:00", {"zone": "Europe/London"}, "2026-03-01T03:06:07.000000Z"),
        ("2011-07-01 12:00:00", {"zone": "Europe/London"}, "2011-07-01T11:00:00.000000Z"),
        ("1/7/2011 12:00", {"format": "%d/%m/%Y %H:%M", "zone": "Europe/London"}, "2011-07-01T11:00:00.000000Z"),
        (datetime(2011, 7, 1, 12), {"zone": "Europe/London"}, "2011-07-01T11:00:00.000000Z"),
        ("2026-03-05", {}, "2026-03-05T00:00:00.000000Z"),
        ("2026-07-05", {"zone": "Europe/London"}, "2026-07-04T23:00:00.000000Z"),
        # What cannot be read arrives as it was.
        ("2026-02-30", {}, "2026-02-30"),
        ("2026-3-5", {}, "2026-3-5"),
        ("yesterday", {}, "yesterday"),
        ("1e300", {"unit": "s"}, "1e300"),
        ("nan", {"unit": "s"}, "nan"),
        ("2026-03-29 01:30:00", {"zone": "Europe/London"}, "2026-03-29 01:30:00"),
    ],
)
def test_a_time_is_read_as_the_mapping_says(value, shape, expected):
    assert times([value], **shape) == [expected]


def test_rules_decide_type_and_refusal_in_their_order():
    rows = landed(
        {"u": ["1", None, " ", "4"], "i": ["A", "POST", "B", "POST"], "t": ["x"] * 4, "no": ["7", "C8", "9", "C9"]},
        event_type={"constant": "purchase", "rules": [{"when": [{"column": "no", "prefix": "C"}], "type": "cancel"}]},
        refuse=[
            {"reason": "fee", "when": [{"column": "i", "one_of": ["POST"]}, {"column": "u", "empty": False}]},
            {"reason": "nobody", "when": [{"column": "u", "empty": True}]},
        ],
    )
    assert rows["event_type"].to_list() == ["purchase", "cancel", "purchase", "cancel"]
    assert rows["refuse_reason"].to_list() == [None, "mapping:nobody", "mapping:nobody", "mapping:fee"]


@pytest.mark.parametrize(
    ("test", "hits"),
    [
        ({"below": 0}, [False, True, False]),
        ({"above": 2}, [True, False, False]),
        ({"equals": "3"}, [True, False, False]),
        ({"matches": "^-"}, [False, True, False]),
        ({"empty": True}, [False, False, True]),
    ],
)
def test_each_condition_holds_where_it_says(test, hits):
    rows = landed(
        {"u": ["1"] * 3, "i": ["2"] * 3, "t": ["x"] * 3, "q": [3, -1, None]},
        refuse=[{"reason": "r", "when": [{"column": "q", **test}]}],
    )
    assert rows["refuse_reason"].is_not_null().to_list() == hits


def test_words_of_a_type_column_are_translated_and_unknown_ones_stay():
    rows = landed(
        {"u": ["1"] * 3, "i": ["2"] * 3, "t": ["x"] * 3, "k": ["clicks", "odd", None]},
        event_type={"column": "k", "values": {"clicks": "view"}},
    )
    assert rows["event_type"].to_list() == ["view", "odd", None]


def test_a_product_is_a_value_and_what_is_no_number_is_none():
    columns = {**SMALLEST["columns"], "value": {"product": ["q", "p"]}}
    rows = landed({"u": ["1"] * 2, "i": ["2"] * 2, "t": ["x"] * 2, "q": [3, 2], "p": ["0.1", "?"]}, columns=columns)
    assert rows["value"].to_list() == ["0.3", None]


def test_an_id_that_pandas_made_a_float_is_whole_again():
    rows = landed({"u": [17850.0, None], "i": [1.5, float("nan")], "t": ["x", "y"]})
    assert rows["user_id"].to_list() == ["17850", None]
    assert rows["item_id"].to_list() == ["1.5", "NaN"]


def test_an_id_is_the_same_in_any_file_and_differs_with_any_column():
    frame = pl.DataFrame({"a": ["ab", "a", "ab", None, ""], "b": ["c", "bc", "c", "c", "c"]})
    ids = hashed_id(frame).to_list()
    assert ids[0] == ids[2] and len(set(ids)) == 4
    assert hashed_id(frame.select("b", "a").reverse()).to_list() == ids[::-1]
    # Written down, because every log that was ever loaded depends on it.
    assert ids[0] == "430fb1b4ac43316eca81fab27a1930ab"
