"""Feast's Redis online store behind the fence (`pipeline.stores.online`), which is a script on the server."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

from pipeline.stores import quick_feast  # noqa: F401  isort: skip

from feast import FeatureView, RepoConfig
from feast.infra.key_encoding_utils import deserialize_entity_key
from feast.infra.online_stores.helpers import _mmh3, _redis_key_prefix, compute_versioned_name
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import Field
from redis import Connection, Redis
from redis._parsers.hiredis import NOT_ENOUGH_DATA, _HiredisParser
from redis.exceptions import RedisError

from pipeline.errors import EngineFailure
from pipeline.stores.encoding import EncodedRow
from pipeline.stores.fence import FAR_PAST, Clock, time_of
from pipeline.stores.lean_reads import LeanReads, Stored
from pipeline.stores.online import ROWS_A_TRANSACTION, Fenced, FencedWrites, answering
from pipeline.stores.online_erasure import without_erased
from pipeline.stores.redis_address import redis_address

KEYS_A_SCAN = 1000
ROWS_A_SCRIPT = 50
"""Rows that one call of the script compares and sets: a server does nothing else for so long."""


class FencedRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    type: Literal["pipeline.stores.online_redis.FencedRedisOnlineStore"] = (
        "pipeline.stores.online_redis.FencedRedisOnlineStore"
    )
    home: str = ""
    stores: dict[str, Any] = Field(default_factory=dict)


# KEYS: the entities' hashes. ARGV: seconds to live (0: for ever), the number of fields, the fields' names, the clock's
# first, then for each hash its values in that order. Clocks are digits of one length, so they compare as text.
PASS_FENCE = """
local count = tonumber(ARGV[2])
local passed = 0
for row, key in ipairs(KEYS) do
  local first = 2 + count * row
  local standing = redis.call('HGET', key, ARGV[3])
  if not standing or standing < ARGV[first + 1] then
    local pairs = {}
    for field = 1, count do
      pairs[2 * field - 1] = ARGV[2 + field]
      pairs[2 * field] = ARGV[first + field]
    end
    redis.call('HSET', key, unpack(pairs))
    if ARGV[1] ~= '0' then redis.call('EXPIRE', key, ARGV[1]) end
    passed = passed + 1
  end
end
return passed
"""

KEEP_LARGEST = """
local standing = redis.call('GET', KEYS[1])
if not standing or standing < ARGV[1] then redis.call('SET', KEYS[1], ARGV[1]) end
return 1
"""


class FencedRedisOnlineStore(LeanReads, FencedWrites, RedisOnlineStore):
    """Feast's hash for each entity with one more field a view, its clock. One script call a row, pipelined."""

    _parse_connection_string = staticmethod(redis_address)
    """Where Feast looks for the servers and the options of its clients."""

    def write_fenced(self, config: RepoConfig, view: FeatureView, rows: Sequence[EncodedRow]) -> Fenced:
        """Write the rows that are newer than what is served, each as a whole. Raises EngineFailure."""
        given, rows = len(rows), without_erased(config, rows)
        if not rows:
            return Fenced(refused=given)
        client, name = self._get_client(config.online_store), _view_name(config, view)
        pass_fence, keep_largest = client.register_script(PASS_FENCE), client.register_script(KEEP_LARGEST)
        features = list(rows[0].values)
        fields = [f"_clock:{name}", f"_ts:{name}", *(_mmh3(f"{name}:{feature}") for feature in features)]
        shared = [config.online_store.key_ttl_seconds or 0, len(fields), *fields]
        project, clock_values = config.project.encode(), lru_cache(_clock_values)
        accepted, done = 0, 0
        try:
            for start in range(0, len(rows), ROWS_A_TRANSACTION):
                part = rows[start : start + ROWS_A_TRANSACTION]
                with client.pipeline(transaction=False) as pipe:
                    for few in _in_batches(iter(part), ROWS_A_SCRIPT):
                        own = [[*clock_values(row.clock), *map(row.values.__getitem__, features)] for row in few]
                        keys = [row.key + project for row in few]
                        pass_fence(keys=keys, args=[*shared, *itertools.chain.from_iterable(own)], client=pipe)
                    passed = pipe.execute()
                accepted, done = accepted + sum(passed), done + len(part)
                newest = max(row.clock for row in part)
                keep_largest(keys=[_newest_key(config, name)], args=[newest.digits()])
        except RedisError as error:
            raise EngineFailure(
                f"The online store refused to write {view.name}: {error}. {done} of {len(rows)} rows were done; "
                "push again, what was written is not written twice."
            ) from error
        return Fenced(accepted, given - accepted)

    def read_stored(
        self, config: RepoConfig, wanted: Sequence[tuple[FeatureView, Sequence[str]]], keys: Sequence[bytes]
    ) -> list[dict[bytes, Stored]]:
        """See LeanReads. All views of an entity lie in one hash, so they are of one moment."""
        client, project, fields = self._get_client(config.online_store), config.project.encode(), []
        for view, features in wanted:
            fields += _fields(_view_name(config, view), *features)
        answers: dict[bytes, list[bytes | None]] = {}
        with answering(RedisError):
            for part in _in_batches(iter(keys), KEYS_A_SCAN):
                answers |= zip(part, _hashes(client, [key + project for key in part], fields), strict=True)
        found, first = [], 0
        for _, features in wanted:
            end = first + 1 + len(features)
            rows = {key: answer[first:end] for key, answer in answers.items() if answer[first] is not None}
            found.append({key: (int(clock[:20]) - FAR_PAST, *values) for key, (clock, *values) in rows.items()})
            first = end
        return found

    def _read_hash_fields(self, config: RepoConfig, commands: list) -> list:
        with answering(RedisError):
            return super()._read_hash_fields(config, commands)

    def newest(self, config: RepoConfig, view: FeatureView) -> datetime | None:
        """The newest event time that was pushed of a view; None where nothing was."""
        with answering(RedisError):
            digits = self._get_client(config.online_store).get(_newest_key(config, _view_name(config, view)))
        return time_of(int(digits[:20]) - FAR_PAST) if digits else None

    def keys(self, config: RepoConfig, view: FeatureView) -> Iterator[EntityKey]:
        """Every entity that has a row in a view. Walks all keys of the server, without holding it up."""
        client, clock, project = self._get_client(config.online_store), _clock_of(config, view), config.project.encode()
        with answering(RedisError):
            for part in _in_batches(client.scan_iter(_all_keys(config, view), count=KEYS_A_SCAN), KEYS_A_SCAN):
                with client.pipeline(transaction=False) as pipe:
                    for key in part:
                        pipe.hexists(key, clock)
                    present = pipe.execute()
                for key, is_there in zip(part, present, strict=True):
                    if is_there:
                        serialized = key.removesuffix(project)
                        yield deserialize_entity_key(serialized, config.entity_key_serialization_version)

    def delete_table(self, config: RepoConfig, table: FeatureView) -> None:
        super().delete_table(config, table)
        client, name = self._get_client(config.online_store), _view_name(config, table)
        for key in client.scan_iter(_all_keys(config, table), count=KEYS_A_SCAN):
            client.hdel(key, f"_clock:{name}")
        client.delete(_newest_key(config, name))


def _all_keys(config: RepoConfig, view: FeatureView) -> bytes:
    """The pattern of the hashes of a view's kind of entity, and of nothing else that the server holds."""
    return _redis_key_prefix(view.join_keys) + b"*" + config.project.encode()


def _clock_of(config: RepoConfig, view: FeatureView) -> str:
    return f"_clock:{_view_name(config, view)}"


def _hashes(client: Redis, keys: Sequence[bytes], fields: Sequence[bytes]) -> list[list[bytes | None]]:
    """The fields of each hash, from one round trip: a pipeline without what redis-py does for each command of one.

    On the benchmark's hundred hashes that takes a third of the time of its pipeline.
    """
    connection = client.connection_pool.get_connection()
    try:
        connection.send_packed_command([_packed(keys, fields)])
        return _replies(connection, len(keys))
    except BaseException:
        connection.disconnect()                                     # what was not read may not answer the next request
        raise
    finally:
        client.connection_pool.release(connection)


def _packed(keys: Sequence[bytes], fields: Sequence[bytes]) -> bytes:
    """An HMGET of the same fields for each key, as Redis reads it from the socket."""
    head = b"*%d\r\n$5\r\nHMGET\r\n" % (2 + len(fields))
    tail = b"".join([b"$%d\r\n%s\r\n" % (len(field), field) for field in fields])
    return b"".join([b"%s$%d\r\n%s\r\n%s" % (head, len(key), key, tail) for key in keys])


def _replies(connection: Connection, count: int) -> list[list[bytes | None]]:
    """What arrived is taken from the parser in C as it is; redis-py reads on where more must arrive."""
    if not isinstance(connection._parser, _HiredisParser) or connection.get_protocol() not in (2, "2"):
        return [connection.read_response() for _ in range(count)]
    replies, parsed = [], None
    while len(replies) < count:
        if parsed is None or (reply := parsed()) is NOT_ENOUGH_DATA:
            reply, parsed = connection.read_response(), connection._parser._reader.gets
        elif isinstance(reply, Exception):
            raise reply
        replies.append(reply)
    return replies


def _in_batches(values: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while part := list(itertools.islice(values, size)):
        yield part


@lru_cache(maxsize=1024)
def _fields(view_name: str, *features: str) -> list[bytes]:
    """Where an entity's hash keeps a view's clock and values."""
    return [f"_clock:{view_name}".encode(), *(_mmh3(f"{view_name}:{feature}") for feature in features)]


def _view_name(config: RepoConfig, view: FeatureView) -> str:
    return compute_versioned_name(view, config.registry.enable_online_feature_view_versioning)


def _newest_key(config: RepoConfig, view_name: str) -> str:
    return f"newest:{config.project}:{view_name}"


def _clock_values(clock: Clock) -> tuple[str, bytes]:
    """What Redis keeps of a clock: ours to compare, Feast's to read."""
    stamp = Timestamp()
    stamp.FromMicroseconds(clock.event_time)
    return clock.digits(), stamp.SerializeToString()
