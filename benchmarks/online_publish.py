"""
Rows a second into the online store, through the fence, beside Feast's own write and raw pipelined Redis writes.

    python benchmarks/online_publish.py                    # 100,000 rows of 64 floats and 200 integers
    python benchmarks/online_publish.py --rows 10000

Every contender writes the same rows into a store of its own, each in a fresh process; the store is SQLite in a
temporary folder, or a Redis server that is started for the time.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import closing

from online_world import FLOATS, INTEGERS, address_of, profiles, store_of
from rich.console import Console
from rich.table import Table

CONTENDERS = {
    "sqlite": ("through the fence", "Feast's own write"),
    "redis": ("through the fence", "Feast's own write", "raw pipelined HSET"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--one", nargs=3, metavar=("STORE", "CONTENDER", "URL"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(*given.one, given.rows)))
        return
    title = f"{given.rows:,} rows of {FLOATS} floats and {INTEGERS} integers"
    table = Table(title=title, title_justify="left", box=None)
    for name in ("store", "contender", "seconds", "rows/s", "times Feast's own", "peak MB"):
        table.add_column(name, justify="left" if name in ("store", "contender") else "right")
    for store, contenders in CONTENDERS.items():
        found = {name: in_fresh_process(store, name, given.rows) for name in contenders}
        feasts = found["Feast's own write"]["seconds"]
        for name, facts in found.items():
            seconds = facts["seconds"]
            table.add_row(store, name, f"{seconds:.1f}", f"{given.rows / seconds:,.0f}", f"{feasts / seconds:.1f}",
                          f"{facts['peak_mb']:.0f}")
    Console(width=120).print(table)


def in_fresh_process(store: str, contender: str, rows: int) -> dict:
    with tempfile.TemporaryDirectory(prefix="online-publish-") as folder, address_of(store, folder) as url:
        command = [sys.executable, __file__, "--rows", str(rows), "--one", store, contender, url]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(store: str, contender: str, url: str, rows: int) -> dict:
    """Seconds and peak memory of one contender; reading one row back shows that it has written."""
    frame = profiles(rows)
    feast = store_of(store, url, fenced=contender == "through the fence")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    if contender == "raw pipelined HSET":
        seconds = raw_writes(url, frame)
    else:
        if contender == "through the fence":
            from pipeline.stores.feature_store import write_newest

            write_newest(feast, feast.get_feature_view("profiles"), frame)
        else:
            feast.write_to_online_store("profiles", frame.to_pandas())
        seconds = time.perf_counter() - began
        found = feast.get_online_features(features=["profiles:items"], entity_rows=[{"user_id": frame["user_id"][-1]}])
        assert found.to_dict()["items"][0] == frame["items"][-1].to_list(), "what was written is not what is read"
    return {"seconds": seconds, "peak_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}


def raw_writes(url: str, frame) -> float:
    """The same bytes, laid out before the clock starts, written by pipelines of a thousand."""
    import redis

    from pipeline.stores.encoding import encode_keys, encode_values

    columns = [encode_values(frame[name]) for name in ("vector", "items")]
    keys = encode_keys(frame["user_id"], "user_id")
    host, port = url.split(" ")[1].split(":")
    with closing(redis.Redis(host, int(port))) as client:
        began = time.perf_counter()
        for start in range(0, len(keys), 1000):
            pipe = client.pipeline(transaction=False)
            for position in range(start, min(start + 1000, len(keys))):
                pipe.hset(keys[position], mapping={b"v": columns[0][position], b"i": columns[1][position]})
            pipe.execute()
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
