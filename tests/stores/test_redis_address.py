"""Where Redis is, read the same way by everybody who asks it, and with an end to waiting."""

import socket
from time import perf_counter

import pytest
from redis.exceptions import TimeoutError as RedisTimeout

from pipeline.stores.online_redis import FencedRedisOnlineStore, FencedRedisOnlineStoreConfig
from pipeline.stores.redis_address import redis_address


def test_options_are_what_they_look_like_and_a_password_is_text():
    places, options = redis_address("redis.internal:6380, ssl=true,db=2,password=1e5,username=007,client_name=a=b")
    assert places == [{"host": "redis.internal", "port": 6380}]
    assert {name: options[name] for name in ("ssl", "db", "password", "username", "client_name")} == {
        "ssl": True, "db": 2, "password": "1e5", "username": "007", "client_name": "a=b"
    }
    assert redis_address("one,two:7000")[0] == [{"host": "one", "port": 6379}, {"host": "two", "port": 7000}]


def test_feasts_client_waits_ten_seconds_unless_the_address_says_otherwise():
    for given, expected in (("", 10.0), (",socket_timeout=2.5", 2.5)):
        config = FencedRedisOnlineStoreConfig(connection_string=f"127.0.0.1:1{given}")
        client = FencedRedisOnlineStore()._get_client(config)
        assert client.connection_pool.connection_kwargs["socket_timeout"] == expected


@pytest.mark.fault("Redis takes connections and is silent")
def test_nobody_waits_for_ever_for_a_silent_redis():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]},socket_timeout=0.1"
        began = perf_counter()
        client = FencedRedisOnlineStore()._get_client(FencedRedisOnlineStoreConfig(connection_string=address))
        with pytest.raises(RedisTimeout):
            client.get("anything")
        assert perf_counter() - began < 60
