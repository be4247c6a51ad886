"""A look-up that takes the short way gives the answer that Feast gives, value for value and status for status."""

import asyncio
import string
from datetime import UTC, datetime, timedelta
from random import Random

import polars as pl
import pytest

from pipeline.contracts import INTEREST_WINDOWS, LONG_TERM_INTEREST, SEQUENCE_FEATURES

TABLES = (SEQUENCE_FEATURES, INTEREST_WINDOWS, LONG_TERM_INTEREST)
USERS = ["anna", "böhm", "c" * 200, "d"]
STRANGER = "nobody"
DAY = datetime(2026, 3, 1, 23, 59, 59, 999_999, tzinfo=UTC)


def value_of(dtype: pl.DataType, drawn: Random):
    if isinstance(dtype, pl.List):
        return [value_of(dtype.inner, drawn) for _ in range(drawn.choice([0, 1, 3, 70, 200]))]
    if dtype == pl.String:
        return "".join(drawn.choices(string.printable + "äß漢🙂", k=drawn.choice([1, 5, 140])))
    if isinstance(dtype, pl.Datetime):
        return DAY + timedelta(microseconds=drawn.randrange(10**16))
    if dtype.is_float():
        return drawn.choice([0.0, -1.5, drawn.gauss(0, 1e6)])
    return drawn.choice([0, 1, 127, 128, -1, drawn.randrange(-(2**31), 2**31)])


def rows_of(table, drawn: Random, created: datetime) -> pl.DataFrame:
    """Of the first users; the others of `USERS` have none in this view."""
    def draw(column, user):
        facts = {"user_id": user, "event_timestamp": DAY, "created": created}
        missing = not column.required and drawn.random() < 0.3
        return facts.get(column.name) or (None if missing else value_of(column.dtype, drawn))

    users = USERS[: drawn.randint(1, len(USERS))]
    rows = [{column.name: draw(column, user) for column in table.columns} for user in users]
    return pl.DataFrame(rows, schema=table.schema)


def with_unknown_users_not_found(response):
    """Feast's Redis store says PRESENT of a user without a row; its SQLite store, and both of ours, NOT_FOUND."""
    from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
    from feast.protos.feast.types.Value_pb2 import Value
    from google.protobuf.timestamp_pb2 import Timestamp

    for feature in response.results:
        for position, facts in enumerate(zip(feature.values, feature.event_timestamps, strict=True)):
            if facts == (Value(), Timestamp()):
                feature.statuses[position] = FieldStatus.NOT_FOUND
    return response


@pytest.mark.parametrize("seed", range(4))
def test_the_short_way_and_feasts_own_way_give_one_answer(online, seed):
    from pipeline.stores.feature_store import open_feature_store, push_online
    from pipeline.stores.lean_reads import LeanReads, LeanResponse

    drawn, created = Random(seed), DAY + timedelta(seconds=seed)
    for table in TABLES:
        frame = rows_of(table, drawn, created)
        assert push_online(online, table.name, frame).accepted == frame.height

    store = open_feature_store(online)
    for full_names in (False, True):
        asked = (store.config, store.get_feature_service("training_v1"), {"user_id": [*USERS, STRANGER, USERS[0]]},
                 store.registry, store.project, full_names)
        lean = store.provider.online_store.get_online_features(*asked)
        feasts = super(LeanReads, store.provider.online_store).get_online_features(*asked)
        assert type(lean) is LeanResponse and type(feasts) is not LeanResponse
        assert lean.proto == with_unknown_users_not_found(feasts.proto)
        assert lean.proto == asyncio.run(store.provider.online_store.get_online_features_async(*asked)).proto
        assert lean.to_dict() == feasts.to_dict()
        assert lean.to_dict(include_event_timestamps=True) == feasts.to_dict(include_event_timestamps=True)
