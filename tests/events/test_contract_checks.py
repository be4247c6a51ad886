"""Every row is accepted, or refused with its reason; nothing is lost, and repetitions are found."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as tries
from hypothesis import strategies as st

from pipeline.contracts import BEHAVIOR_EVENTS, PARTITION_COLUMN
from pipeline.errors import ContractViolation
from pipeline.events.contract_checks import RowRules, as_landed, check_rows, deduplicate, require_columns

BAD_ROWS = [
    ({"user_id": None}, "user_id_missing"),
    ({"user_id": "  "}, "user_id_empty"),
    ({"item_id": ""}, "item_id_empty"),
    ({"user_id": "x" * 257}, "user_id_too_long"),
    ({"item_id": "a\x00b"}, "item_id_control_characters"),
    ({"item_id": "a\x1b[31mb"}, "item_id_control_characters"),
    ({"item_id": "a\u202eb"}, "item_id_control_characters"),
    ({"user_id": "<script>alert(1)</script>"}, "user_id_html_or_sql"),
    ({"user_id": "1' OR '1'='1"}, "user_id_html_or_sql"),
    ({"item_id": "1; DROP TABLE items"}, "item_id_html_or_sql"),
    ({"event_id": "x" * 257}, "event_id_too_long"),
    ({"event_id": " "}, "event_id_empty"),
    ({"event_type": None}, "event_type_missing"),
    ({"event_type": "like"}, "event_type_not_allowed"),
    ({"event_time": None}, "event_time_missing"),
    ({"event_time": "yesterday"}, "event_time_unparsable"),
    ({"event_time": "2026-13-01T00:00:00Z"}, "event_time_unparsable"),
    ({"event_time": "1970-01-01T00:00:00Z"}, "event_time_out_of_range"),
    ({"event_time": "9999-12-31T00:00:00Z"}, "event_time_out_of_range"),
    ({"event_time": "2026-03-02T00:00:00Z"}, "event_time_outside_day"),
    ({"event_time": "2026-02-28T23:59:59.999999Z"}, "event_time_outside_day"),
    ({"value": "a lot"}, "value_unparsable"),
    ({"value": "NaN"}, "value_not_finite"),
    ({"value": "-inf"}, "value_not_finite"),
    ({"value": "1e999"}, "value_not_finite"),
    ({"ingested_at": None}, "ingested_at_missing"),
    ({"ingested_at": "soon"}, "ingested_at_unparsable"),
    ({"refuse_reason": "mapping:not_an_item", "user_id": None}, "mapping:not_an_item"),
]


@pytest.mark.parametrize(("said", "reason"), BAD_ROWS)
def test_a_bad_row_is_refused_with_its_reason_and_costs_no_other_row(delivered, rules, said, reason):
    checked = check_rows(delivered({}, said, {"user_id": "u2"}), rules)
    assert checked.refused["reason"].to_list() == [reason]
    assert checked.refused["source_row"].to_list() == [1]
    assert checked.accepted["user_id"].to_list() == ["u1", "u2"]


@pytest.mark.parametrize(
    "said",
    [
        {"user_id": "O'Brien"},
        {"item_id": "85123A-2;x--y"},
        {"item_id": "商品 №1"},
        {"user_id": "x" * 256},
        {"value": None},
        {"value": "-4.5"},
        {"event_time": "2026-03-01T23:59:59.999999Z"},
        {"event_time": "2026-03-02T01:30:00+02:00"},
        {"event_time": "2026-03-01 00:00:00"},
    ],
)
def test_an_unusual_row_that_keeps_the_contract_is_accepted(delivered, rules, said):
    assert check_rows(delivered(said), rules).accepted.height == 1


def test_an_event_within_the_tolerance_after_the_day_is_accepted(delivered, rules):
    late = delivered({"event_time": "2026-03-02T00:04:59Z"})
    tolerant = RowRules(rules.event_types, rules.earliest, timedelta(minutes=5))
    assert check_rows(late, rules).accepted.is_empty()
    assert check_rows(late, tolerant).accepted.height == 1


def test_what_is_shown_of_a_bad_value_cannot_act(delivered, rules):
    refused = check_rows(delivered({"user_id": "\x1b[2J" + "x" * 300}), rules).refused
    detail = refused["detail"].item()
    assert "\x1b" not in detail and len(detail) <= 81
    assert refused["user_id"].item().startswith("\x1b"), "the row itself keeps what it said"


def test_accepted_rows_have_the_contracts_types(delivered, rules):
    accepted = check_rows(delivered({}), rules).accepted
    assert accepted.schema == {**BEHAVIOR_EVENTS.schema, PARTITION_COLUMN: pl.String()}


def test_a_missing_event_id_is_derived_from_what_the_row_says(delivered, rules):
    rows = delivered({}, {"ingested_at": "2026-03-05T00:00:00Z"}, {"item_id": "i2"})
    ids = rows["event_id"].to_list()
    assert ids[0] == ids[1] != ids[2]


def test_a_repeated_row_is_dropped_and_is_no_conflict(delivered, rules):
    unique = deduplicate(check_rows(delivered({}, {}, {"item_id": "i2"}), rules).accepted)
    assert (unique.kept.height, unique.dropped.height, unique.dropped["contradicts"].sum()) == (2, 1, 0)


def test_of_two_payloads_with_one_id_the_last_arrival_is_kept_in_any_order(delivered, rules):
    first = {"event_id": "e1", "item_id": "z"}
    second = {"event_id": "e1", "item_id": "a", "ingested_at": "2026-03-02T09:00:00Z"}
    for rows in ([first, second], [second, first]):
        unique = deduplicate(check_rows(delivered(*rows), rules).accepted)
        assert unique.kept["item_id"].to_list() == ["a"]
        assert unique.dropped["contradicts"].to_list() == [True]


def test_the_same_id_on_two_days_is_two_events(delivered, rules):
    rows = delivered(
        {"event_id": "e1"},
        {"event_id": "e1", "event_time": "2026-03-02T10:00:00Z", PARTITION_COLUMN: "2026-03-02"},
    )
    assert deduplicate(check_rows(rows, rules).accepted).kept.height == 2


TEXT = st.one_of(
    st.none(),
    st.sampled_from(["", " ", "u1", "i1", "view", "like", "nan", "1e999", "-1", "2026-03-01T10:00:00Z", "<b>"]),
    st.text(max_size=12),
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(["event_id", "user_id", "item_id", "event_type", "event_time", "value"], TEXT)
    ),
    min_size=1,
    max_size=12,
)


@given(rows=ROWS)
@tries(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_row_is_ever_lost(delivered, rules, rows):
    everything = delivered(*rows)
    checked = check_rows(everything, rules)
    unique = deduplicate(checked.accepted)
    assert everything.height == unique.kept.height + unique.dropped.height + checked.refused.height
    assert checked.refused["reason"].null_count() == 0
    assert unique.kept["event_id"].n_unique() == unique.kept.height
    again = deduplicate(check_rows(everything.reverse(), rules).accepted)
    assert again.kept.sort("event_id").equals(unique.kept.sort("event_id"))


def landing_file(**changes) -> pl.DataFrame:
    columns = {
        "user_id": ["u"], "item_id": ["i"], "event_type": ["view"], "value": [1.0],
        "event_time": [datetime(2026, 3, 1, tzinfo=UTC)], "ingested_at": [datetime(2026, 3, 1, tzinfo=UTC)],
    }
    return pl.DataFrame({name: values for name, values in {**columns, **changes}.items() if values is not None})


def test_a_renamed_column_is_told_as_expected_and_found():
    with pytest.raises(ContractViolation) as refused:
        require_columns(landing_file(user_id=None, uid=["u"]), "2026-03-01/a.parquet")
    message = str(refused.value)
    assert "2026-03-01/a.parquet" in message
    assert "user_id: expected String, found no such column" in message
    assert "renamed?): uid" in message


def test_a_column_of_another_type_is_told_as_expected_and_found():
    with pytest.raises(ContractViolation, match=r"event_time: expected Datetime.*found Int64"):
        require_columns(landing_file(event_time=[881250949]), "a.parquet")
    with pytest.raises(ContractViolation, match="user_id: expected String, found Int64"):
        require_columns(landing_file(user_id=[7]), "a.parquet")


def test_an_extra_column_is_named_and_ignored():
    assert require_columns(landing_file(country=["UK"]), "a.parquet") == ["country"]
    assert "country" not in as_landed(landing_file(country=["UK"])).columns


def test_times_of_any_unit_and_zone_arrive_in_utc():
    local = pl.Series([datetime(2026, 3, 1, 12)]).dt.replace_time_zone("Europe/Paris").dt.cast_time_unit("ms")
    frame = landing_file().with_columns(local.alias("event_time"))
    assert as_landed(frame)["event_time"].item() == "2026-03-01T11:00:00.000000Z"
