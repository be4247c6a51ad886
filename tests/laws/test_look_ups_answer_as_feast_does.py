"""A look-up that takes the short way gives the answer that Feast gives, value for value and status for status."""

import asyncio
import json
import string
from datetime import UTC, datetime, timedelta
from random import Random

import httpx
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
    from pipeline.stores.lean_answers import LeanResponse
    from pipeline.stores.lean_reads import LeanReads

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
        assert lean.to_arrow().equals(feasts.to_arrow()) and lean.to_arrow().schema.equals(feasts.to_arrow().schema)
        assert lean.to_arrow(include_event_timestamps=True).equals(feasts.to_arrow(include_event_timestamps=True))


def answers_of(app, requests: list[httpx.Request]) -> list[tuple[int, object]]:
    """Status and JSON of each, from an ASGI application in this process."""
    async def ask():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://features") as client:
            return [await client.send(request) for request in requests]

    return [(answer.status_code, answer.json()) for answer in asyncio.run(ask())]


def asking(body, content_type: str = "application/json", path: str = "/get-online-features") -> httpx.Request:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.Request("POST", f"http://features{path}", content=content, headers={"Content-Type": content_type})


async def nobody(scope, receive, send):
    raise AssertionError("a plain request went to Feast's server")


@pytest.mark.parametrize("seed", range(2))
def test_over_http_the_short_way_gives_feasts_own_json(online, seed):
    from feast.feature_server import get_app

    from pipeline.serving.lean_lookups import FEW, LeanLookups
    from pipeline.stores.feature_store import open_feature_store, push_online

    drawn = Random(seed)
    for table in TABLES:
        push_online(online, table.name, rows_of(table, drawn, DAY + timedelta(seconds=seed)))
    store = open_feature_store(online)
    some = ["interest_windows:entropy", "long_term_interest:vector", "sequence_features:item_ids"]
    everybody = [*USERS, STRANGER, USERS[0]]
    asked = [
        asking(chosen | {"entities": {"user_id": users}} | names, content_type)
        for chosen in ({"feature_service": "training_v1"}, {"feature_service": None, "features": some},
                       {"features": some[:1], "feature_service": "ranking_v1"})
        for users in (everybody, [STRANGER], USERS[:1], everybody * (1 + FEW // len(everybody)))
        for names, content_type in (({}, "application/json; charset=utf-8"),
                                    ({"full_feature_names": True}, "application/json"))
    ]
    lean, feasts = answers_of(LeanLookups(nobody, store), asked), answers_of(get_app(store), asked)
    assert {status for status, _ in lean} == {200}
    assert lean == feasts


def test_over_http_numbers_that_json_lacks_are_feasts_words_for_them(online):
    from feast.feature_server import get_app

    from pipeline.serving.lean_lookups import LeanLookups
    from pipeline.stores.feature_store import open_feature_store, write_newest

    store, drawn = open_feature_store(online), Random(3)
    for later, numbers in enumerate(([float("nan"), 1.0], [float("inf"), float("-inf")])):
        row = {column.name: value_of(column.dtype, drawn) for column in LONG_TERM_INTEREST.columns}
        row |= {"user_id": "endless", "vector": numbers, "event_timestamp": DAY, "created": DAY + timedelta(later)}
        write_newest(store, store.get_feature_view("long_term_interest"),
                     pl.DataFrame([row], schema=LONG_TERM_INTEREST.schema))
        asked = [asking({"features": ["long_term_interest:vector"], "entities": {"user_id": ["endless"] * times}})
                 for times in (1, 9)]
        lean = answers_of(LeanLookups(nobody, store), asked)
        assert isinstance(lean[0][1]["results"][1]["values"][0][0], str)
        assert lean == answers_of(get_app(store), asked)


def test_over_http_what_is_not_plain_or_wrong_is_answered_by_feast_as_it_came(online):
    from feast.feature_server import get_app

    from pipeline.serving.lean_lookups import LeanLookups
    from pipeline.stores.feature_store import open_feature_store

    store = open_feature_store(online)
    feasts = get_app(store)
    seen = []

    async def counted(scope, receive, send):
        seen.append(scope["path"])
        await feasts(scope, receive, send)

    plain = {"features": ["long_term_interest:vector"], "entities": {"user_id": ["anna"]}}
    other = [
        asking(plain | {"features": ["long_term_interest:nothing"]}),
        asking(plain | {"features": ["nowhere:vector"]}),
        asking(plain | {"features": ["vector"]}),
        asking(plain | {"features": []}),
        asking(plain | {"features": None, "feature_service": "ranking_v1"}),
        asking(plain | {"features": [1]}),
        asking(plain | {"feature_service": "nobodys_v1"}),
        asking(plain | {"feature_service": 3}),
        asking(plain | {"full_feature_names": "yes"}),
        asking(plain | {"include_feature_view_version_metadata": True}),
        asking(plain | {"more": 1}),
        asking(plain | {"entities": {"item_id": ["i1"]}}),
        asking(plain | {"entities": {"user_id": ["anna"], "item_id": ["i1"]}}),
        asking(plain | {"entities": {"user_id": []}}),
        asking(plain | {"entities": {"user_id": [7]}}),
        asking(plain | {"entities": {"user_id": "anna"}}),
        asking(plain | {"entities": {"user_id": ["\ud800"]}}),
        asking(plain | {"entities": {}}),
        asking([plain]), asking(b"{"), asking(b""), asking(b"\xff\xfe"),
        asking(plain, content_type="text/plain"),
        asking(plain, path="/get-online-features?project=x"),
        asking(plain, path="/nothing"),
    ]
    lean = answers_of(LeanLookups(counted, store), other)
    assert len(seen) == len(other)
    assert lean == answers_of(feasts, other)
    assert {status for status, _ in lean} >= {200, 404, 422, 500}
