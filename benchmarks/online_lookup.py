"""
Look-ups of 1 and 100 users, in Python: ours, Feast's stock store with the same service, and the same bytes from Redis.

    python benchmarks/online_lookup.py                    # 20,000 users, each with 64 floats and 200 integers

Every contender answers the same requests, one after the other, each in a fresh process, and its answers are compared
with the rows that were pushed. Contenders take turns for some rounds, and of each its best one counts: a processor that
is slow for a minute is then nobody's handicap.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from online_world import address_of, profiles, store_of
from rich.console import Console
from rich.table import Table

CONTENDERS = {
    "sqlite": ("fenced store", "Feast's stock store"),
    "redis": ("fenced store", "Feast's stock store", "raw HMGET"),
}
ROUNDS = 3
SIZES = ("1", "100", "100 as Arrow")
FEATURES = ["profiles:vector", "profiles:items"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--one", nargs=3, metavar=("STORE", "CONTENDER", "ADDRESS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(*given.one, given.users, given.requests)))
        return
    title = f"{given.requests:,} requests to {given.users:,} users, the best of {ROUNDS} rounds"
    table = Table("store", "contender", title=title, title_justify="left", box=None)
    for name in ("users asked", "p50 ms", "p99 ms", "times Feast's"):
        table.add_column(name, justify="right")
    for store, contenders in CONTENDERS.items():
        rounds = [
            {name: in_fresh_process(store, name, given.users, given.requests) for name in contenders}
            for _ in range(ROUNDS)
        ]
        for asked in SIZES:
            best = {name: min(facts[name][asked] for facts in rounds) for name in contenders}
            feasts = best["Feast's stock store"][0]
            for name, (p50, p99) in best.items():
                table.add_row(store, name, asked, f"{p50:.2f}", f"{p99:.2f}", f"{feasts / p50:.1f}")
    Console(width=120).print(table)


def in_fresh_process(store: str, contender: str, users: int, requests: int) -> dict:
    with tempfile.TemporaryDirectory(prefix="online-lookup-") as folder, address_of(store, folder) as address:
        sizes = ["--users", str(users), "--requests", str(requests)]
        command = [sys.executable, __file__, *sizes, "--one", store, contender, address]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(kind: str, contender: str, address: str, users: int, requests: int) -> dict[str, tuple[float, float]]:
    """Median and 99th percentile in milliseconds, by how many users a request asks for."""
    frame = profiles(users)
    raw = contender == "raw HMGET"
    ask = raw_reader(address, frame) if raw else feast_reader(kind, address, frame, contender)
    drawn = np.random.default_rng(1)
    found = {}
    for size in SIZES:
        asked, _, in_arrow = size.partition(" as ")
        seconds = []
        for _ in range(requests):
            rows = drawn.integers(0, users, size=int(asked)).tolist()
            ids = [f"user-{row:08d}" for row in rows]
            began = time.perf_counter()
            answer = ask(ids, bool(in_arrow))
            seconds.append(time.perf_counter() - began)
        if not raw:
            items = answer["items"].to_pylist() if in_arrow else answer["items"]
            assert items == frame["items"].gather(rows).to_list(), "what was pushed is not what is read"
        found[size] = tuple(1000 * np.percentile(seconds[requests // 10 :], [50, 99]))
    return found


def feast_reader(kind: str, address: str, frame: pl.DataFrame, contender: str) -> Callable[[list[str], bool], Any]:
    """`get_online_features` as everybody calls it, over the fenced store or the stock one; a dictionary or a table."""
    fenced = contender == "fenced store"
    store = store_of(kind, address, fenced)
    if fenced:
        from pipeline.stores.feature_store import write_newest

        write_newest(store, store.get_feature_view("profiles"), frame)
    else:
        store.write_to_online_store("profiles", frame.to_pandas())

    def ask(ids: list[str], in_arrow: bool) -> Any:
        answer = store.get_online_features(FEATURES, entity_rows=[{"user_id": user} for user in ids])
        return answer.to_arrow() if in_arrow else answer.to_dict()

    return ask


def raw_reader(address: str, frame: pl.DataFrame) -> Callable[[list[str], bool], list]:
    """The same bytes, asked for by key in one pipeline, undecoded."""
    import redis

    from pipeline.stores.encoding import encode_keys, encode_values

    host, port = address.split(" ")[1].split(":")
    client = redis.Redis(host, int(port))
    keys = encode_keys(frame["user_id"], "user_id")
    columns = [encode_values(frame[name]) for name in ("vector", "items")]
    for start in range(0, len(keys), 1000):
        pipe = client.pipeline(transaction=False)
        for row in range(start, min(start + 1000, len(keys))):
            pipe.hset(keys[row], mapping={b"v": columns[0][row], b"i": columns[1][row]})
        pipe.execute()
    by_user = dict(zip(frame["user_id"], keys, strict=True))

    def ask(ids: list[str], in_arrow: bool) -> list:
        pipe = client.pipeline(transaction=False)
        for user in ids:
            pipe.hmget(by_user[user], b"v", b"i")
        return pipe.execute()

    return ask


if __name__ == "__main__":
    main()
