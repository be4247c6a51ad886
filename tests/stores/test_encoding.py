"""The bytes of a push are those that Feast itself would have stored."""

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as how_much
from hypothesis import strategies as st

from pipeline.stores.encoding import decode_numbers, encode_keys, encode_rows, encode_values

MOMENT = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")
TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200)
WHOLE = st.integers(-(2**63), 2**63 - 1)
REAL32, REAL64 = st.floats(width=32, allow_nan=False), st.floats(allow_nan=False)
TIMES = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
TYPES = {
    "text": (pl.String(), TEXTS), "whole": (pl.Int64(), WHOLE), "real": (pl.Float64(), REAL64),
    "time": (TIME, TIMES), "flag": (pl.Boolean(), st.booleans()), "real32": (pl.Float32(), REAL32),
    "texts": (pl.List(pl.String()), st.lists(TEXTS, max_size=5)),
    "wholes": (pl.List(pl.Int64()), st.lists(WHOLE, max_size=9)),
    "reals": (pl.List(pl.Float64()), st.lists(REAL64, max_size=5)),
    "vector": (pl.List(pl.Float32()), st.lists(REAL32, max_size=40)),
    "times": (pl.List(TIME), st.lists(TIMES, max_size=5)),
}


def as_feast_does(column: pl.Series, ids: pl.Series) -> tuple[list[bytes], list[bytes]]:
    """Keys and values, one message at a time."""
    from pipeline.stores import quick_feast  # noqa: F401  isort: skip
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.types import Array, Bool, Float32, Float64, Int64, String, UnixTimestamp
    from feast.utils import _convert_arrow_to_proto

    plain = {pl.String: String, pl.Int64: Int64, pl.Float64: Float64, pl.Float32: Float32, pl.Boolean: Bool,
             pl.Datetime: UnixTimestamp}
    dtype = column.dtype
    kind = Array(plain[dtype.inner.base_type()]) if isinstance(dtype, pl.List) else plain[dtype.base_type()]
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    source = FileSource(name="s", path="s", timestamp_field="event_timestamp", created_timestamp_column="created")
    schema = [Field(name="user_id", dtype=String), Field(name="value", dtype=kind)]
    view = FeatureView(name="v", entities=[user], source=source, schema=schema)
    view.features = [field for field in schema if field.name == "value"]
    clock = pl.Series([MOMENT] * len(ids), dtype=TIME)
    rows = pl.DataFrame({"user_id": ids, "value": column, "event_timestamp": clock, "created": clock})
    encoded = _convert_arrow_to_proto(rows.to_arrow(), view, {"user_id": ValueType.STRING})
    return (
        [serialize_entity_key(key, entity_key_serialization_version=3) for key, *_ in encoded],
        [values["value"].SerializeToString() for _, values, *_ in encoded],
    )


@pytest.mark.parametrize("name", TYPES)
@how_much(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_keys_and_values_of_every_type_are_the_bytes_of_feast(name, data):
    dtype, values = TYPES[name]
    column = pl.Series("value", data.draw(st.lists(values, min_size=1, max_size=12)), dtype=dtype)
    ids = pl.Series("user_id", [f"{data.draw(TEXTS)}{position}" for position in range(len(column))])
    keys, encoded = as_feast_does(column, ids)
    assert encode_keys(ids, "user_id") == keys
    assert list(map(without_padding, encode_values(column))) == encoded


def without_padding(message: bytes) -> bytes:
    """As Feast writes it: in a list of whole numbers we may give each the size of the largest."""
    from feast.protos.feast.types.Value_pb2 import Value

    return Value.FromString(message).SerializeToString()


@pytest.mark.parametrize("largest", [1, 127, 128, 60_000, 2**21, 2**28, 2**35 - 1, 2**35, 2**63 - 1, -1])
def test_lists_of_whole_numbers_come_back_from_our_bytes_and_from_those_of_feast(largest):
    column = pl.Series("value", [[0, largest, 3], [], None, [largest], [5] * 200], dtype=pl.List(pl.Int64))
    ours = encode_values(column)
    assert decode_numbers(ours, pl.Int64) == column.to_list()
    feasts = [without_padding(message) for message in ours]
    assert decode_numbers(feasts, pl.Int64) == column.to_list()
    assert decode_numbers([ours[0], feasts[4]], pl.Int64) == [column[0].to_list(), column[4].to_list()]


def test_a_missing_value_is_an_empty_message():
    column = pl.Series("value", [1.5, None, 0.0], dtype=pl.Float64)
    assert encode_values(column) == as_feast_does(column, pl.Series(["a", "b", "c"]))[1]
    assert encode_values(column)[1] == b""


def test_a_row_carries_its_clock():
    clock = pl.Series([MOMENT], dtype=TIME)
    rows = pl.DataFrame({"user_id": ["u"], "n": [3], "event_timestamp": clock, "created": clock})
    [encoded] = encode_rows(rows, "user_id", ["n"])
    microseconds = 1_772_368_215_250_000
    assert (encoded.clock.event_time, encoded.clock.known_at) == (microseconds, microseconds)


def test_a_type_that_no_contract_uses_is_refused_by_name():
    with pytest.raises(TypeError, match=r"odd: .*Date"):
        encode_values(pl.Series("odd", [MOMENT.date()]))
