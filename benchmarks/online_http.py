"""
Look-ups over HTTP with 1, 8 and 32 clients: from our feature server, and from Feast's over its stock store.

    python benchmarks/online_http.py                      # 5,000 users, each with 64 floats and 200 integers

Each client sends its next request when it has its answer. All clients are one thread with raw sockets
(`http_clients.py`), whose requests are made beforehand: they share the machine with the server, so whatever they
cost the server does not have. Every round starts each server afresh, contenders take turns, and of each row its best
round counts (the lowest 99th percentile). The last answer of each run is compared with the rows that were pushed.
The last column divides a 99th percentile by the median that one client sees for the same request.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import polars as pl
from http_clients import asked_by, request_of
from online_lookup import FEATURES, feast_reader
from online_world import address_of, profiles, store_of
from rich.console import Console
from rich.table import Table

CLIENTS = (1, 8, 32)
ASKED = (1, 100)
CONTENDERS = {"sqlite": ("ours", "Feast's"), "redis": ("ours", "Feast's")}
WARM_UP = 200
COLUMNS = ("users asked", "clients", "p50 ms", "p99 ms", "requests/s", "p99 / p50 of one client")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=5_000)
    parser.add_argument("--requests", type=int, default=2_000, help="of each row; a tenth of it for 100 users")
    parser.add_argument("--workers", type=int, default=2, help="processes of the server")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", nargs=4, metavar=("STORE", "CONTENDER", "ADDRESS", "PORT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(*given.serve, given.users, given.workers)
        return
    title = f"{given.requests:,} requests, {given.workers} workers, the best of {given.rounds} rounds"
    table = Table("store", "server", title=title, title_justify="left", box=None)
    for name in COLUMNS:
        table.add_column(name, justify="right")
    frame = profiles(given.users)
    for store, contenders in CONTENDERS.items():
        best: dict[tuple[str, int, int], tuple[float, float, float]] = {}
        for _ in range(given.rounds):
            for contender in contenders:
                with server(store, contender, given.users, given.workers) as port:
                    for asked, clients, facts in measured(port, frame, given.requests):
                        row = contender, asked, clients
                        best[row] = min(best.get(row, facts), facts, key=lambda facts: facts[1])
        for (contender, asked, clients), (p50, p99, rate) in sorted(best.items(), key=lambda row: row[0][0] != "ours"):
            ratio = p99 / best[contender, asked, 1][0]
            figures = f"{p50:.2f}", f"{p99:.2f}", f"{rate:.0f}", f"{ratio:.1f}"
            table.add_row(store, contender, str(asked), str(clients), *figures)
    Console(width=140).print(table)


def measured(port: int, frame: pl.DataFrame, requests: int) -> Iterator[tuple[int, int, tuple[float, float, float]]]:
    """How many users and clients; median and 99th percentile in milliseconds, and requests a second."""
    drawn = np.random.default_rng(1)
    for asked in ASKED:
        times = requests if asked == 1 else max(requests // 10, 64)
        wanted = drawn.integers(0, frame.height, size=(times, asked))
        made = [request_of({"features": FEATURES, "entities": {"user_id": frame["user_id"][row].to_list()}})
                for row in wanted]
        asked_by(8, port, made[: WARM_UP // asked + 8])
        for clients in CLIENTS:
            taken, seconds, last = asked_by(clients, port, made)
            answer = json.loads(last)
            served = answer["results"][answer["metadata"]["feature_names"].index("items")]["values"]
            users = answer["results"][0]["values"]
            assert served == frame.filter(pl.col("user_id").is_in(users))["items"].to_list() or asked > 1
            p50, p99 = 1000 * np.percentile(taken, [50, 99])
            yield asked, clients, (p50, p99, len(made) / seconds)


@contextmanager
def server(store: str, contender: str, users: int, workers: int) -> Iterator[int]:
    """The port of a Feast server over a store that holds the users' rows."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="online-http-") as folder, address_of(store, folder) as address:
        sizes = ["--users", str(users), "--workers", str(workers)]
        command = [sys.executable, __file__, *sizes, "--serve", store, contender, address, str(port)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(1200):
                assert process.poll() is None, "the server ended at once"
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            yield port
        finally:
            process.terminate()
            process.wait(30)


def serve(kind: str, contender: str, address: str, port: str, users: int, workers: int) -> None:
    fenced = contender == "ours"
    feast_reader(kind, address, profiles(users), "fenced store" if fenced else "stock")
    store = store_of(kind, address, fenced)
    if fenced:
        from pipeline.serving.feature_server import serve as serve_quickly

        serve_quickly(store, "127.0.0.1", int(port), workers)
    else:
        store.serve("127.0.0.1", int(port), no_access_log=True, workers=workers, max_requests=0, max_requests_jitter=0)


if __name__ == "__main__":
    main()
