"""
Look-ups over HTTP from Feast's own server, with 1, 8 and 32 clients: over the fenced store and over Feast's stock one.
Clients and server share the machine, so the more clients there are, the less of it the server has.

    python benchmarks/online_http.py                      # 5,000 users, each with 64 floats and 200 integers

The last column divides a 99th percentile by the median that one client sees for the same request.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from online_lookup import FEATURES, feast_reader
from online_world import address_of, profiles, store_of
from rich.console import Console
from rich.table import Table

CLIENTS = (1, 8, 32)
ASKED = (1, 100)
WARM_UP = 40
HEADERS = {"Content-Type": "application/json"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=5_000)
    parser.add_argument("--requests", type=int, default=400, help="in all, of each row")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="processes of the server")
    parser.add_argument("--serve", nargs=4, metavar=("STORE", "CONTENDER", "ADDRESS", "PORT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(*given.serve, given.users, *given.workers)
        return
    table = Table("store", "contender", "workers", title=f"{given.requests:,} requests", title_justify="left", box=None)
    for name in ("users asked", "clients", "p50 ms", "p99 ms", "requests/s", "p99 / p50 of one client"):
        table.add_column(name, justify="right")
    for store in ("sqlite", "redis"):
        for contender in ("fenced store", "Feast's stock store"):
            for workers in given.workers:
                with server(store, contender, given.users, workers) as port:
                    for row in measured(port, given.users, given.requests):
                        table.add_row(store, contender, str(workers), *row)
    Console(width=140).print(table)


def measured(port: int, users: int, requests: int) -> Iterator[tuple[str, ...]]:
    for asked in ASKED:
        alone = None
        for clients in CLIENTS:
            each = max(requests // clients // (asked // 50 or 1), 5)
            began = time.perf_counter()
            with ThreadPoolExecutor(clients) as pool:
                taken = list(pool.map(lambda seed, each=each, asked=asked: client(port, users, asked, each, seed),
                                      range(clients)))
            seconds = time.perf_counter() - began
            p50, p99 = 1000 * np.percentile(np.concatenate(taken), [50, 99])
            alone = alone or p50
            rate = clients * each / seconds
            yield str(asked), str(clients), f"{p50:.1f}", f"{p99:.1f}", f"{rate:.0f}", f"{p99 / alone:.1f}"


def client(port: int, users: int, asked: int, requests: int, seed: int) -> list[float]:
    """Seconds of each request over one connection."""
    drawn, connection = np.random.default_rng(seed), http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    seconds = []
    for _ in range(requests):
        ids = [f"user-{row:08d}" for row in drawn.integers(0, users, size=asked)]
        body = json.dumps({"features": FEATURES, "entities": {"user_id": ids}})
        began = time.perf_counter()
        connection.request("POST", "/get-online-features", body, HEADERS)
        answer = connection.getresponse()
        content = answer.read()
        seconds.append(time.perf_counter() - began)
        assert answer.status == 200, content[:500]
    return seconds


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
            client(port, users, asked=1, requests=WARM_UP, seed=0)
            yield port
        finally:
            process.terminate()
            process.wait(30)


def serve(kind: str, contender: str, address: str, port: str, users: int, workers: int) -> None:
    from feast.feature_server import start_server

    feast_reader(kind, address, profiles(users), contender)
    start_server(
        store_of(kind, address, contender == "fenced store"), "127.0.0.1", int(port), no_access_log=True,
        workers=workers, worker_connections=1000, max_requests=0, max_requests_jitter=0, keep_alive_timeout=30,
        registry_ttl_sec=60, tls_key_path="", tls_cert_path="", metrics=False,
    )


if __name__ == "__main__":
    main()
