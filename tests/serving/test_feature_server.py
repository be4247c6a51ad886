"""The feature server keeps what it answered over HTTP, and the replay finds it right; its workers share the clients."""

import json
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import httpx
import polars as pl
import psutil
import pytest

from pipeline.contracts import LONG_TERM_INTEREST, LOOKUP_LOG
from pipeline.partitions import Day, utc_now
from pipeline.settings import Settings
from pipeline.stores.tables import Lake


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The server over a home that serves one user, its look-ups kept."""
    from pipeline.stores.feature_store import apply_definitions, push_online
    from pipeline.stores.ledger import Ledger

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path_factory.mktemp("home")
    keep = "[lookups]\nlog = true\nfraction = 1.0\nflush_seconds = 0.1\npush_minutes = 0\n"
    (home / "settings.toml").write_text(f"{keep}[ports]\nfeast = {port}\n")
    settings = Settings.load(home=home)
    Ledger(settings.ledger_url).migrate()
    apply_definitions(settings)
    day = Day.of(utc_now()).plus(-1)
    row = {"user_id": "anna", "vector": [0.6, 0.8], "space_id": "s1", "model_version": 3, "model_cutoff": day.start}
    row |= {"event_timestamp": day.as_of, "created": day.as_of + timedelta(microseconds=1)}
    rows = pl.DataFrame([row], schema=LONG_TERM_INTEREST.schema)
    Lake.of(settings).replace(LONG_TERM_INTEREST, day, rows)
    push_online(settings, "long_term_interest", rows)
    environment = os.environ | {"INTEREST_HOME": str(home), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    log = home / "server.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "pipeline.cli.feature_server"]
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            deadline = time.monotonic() + 120
            while not _answers(client):
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
                time.sleep(0.2)
            yield settings, client, process
    finally:
        process.terminate()
        process.wait(20)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def test_what_was_asked_over_http_by_service_and_by_feature_is_kept_and_right(server):
    from pipeline.steps.lookup_replay import replay_lookups

    settings, client, _ = server
    today = Day.of(datetime.now(UTC))
    entities = {"entities": {"user_id": ["anna", "nobody"]}}
    vector = None
    for asked in ({"feature_service": "ranking_v1"}, {"features": ["long_term_interest:vector"]}):
        answer = client.post("/get-online-features", json=asked | entities)
        assert answer.status_code == 200
        names = answer.json()["metadata"]["feature_names"]
        vector = answer.json()["results"][names.index("vector")]["values"][0]
    assert vector == pytest.approx([0.6, 0.8])
    assert client.post(
        "/get-online-features", json={"features": ["item_text:vector"], "entities": {"item_id": ["i1"]}}
    ).status_code == 200

    lake, deadline = Lake.of(settings), time.monotonic() + 30
    while (kept := lake.scan(LOOKUP_LOG).collect()).height < 8:
        assert time.monotonic() < deadline, kept
        time.sleep(0.1)
    assert kept.height == 8  # two users: three views of the service, one that was named; nothing of the item
    assert sorted(kept["service"].unique()) == ["", "ranking_v1"]
    replayed = replay_lookups(today, Day.of(datetime.now(UTC)), settings, utc_now())
    found = {(one.service, one.parity.view): one.parity for one in replayed.answers}
    assert (found["", "long_term_interest"].sampled, found["", "long_term_interest"].equal) == (2, 2)
    assert found["ranking_v1", "long_term_interest"].equal == 2
    assert replayed.failures == ()


def spoken(address: tuple[str, int], *parts: bytes, answers: int) -> list[object]:
    """The JSON of each answer on one connection that is sent these parts."""
    with socket.create_connection(address, timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            connection.sendall(part)
            time.sleep(0.05)
        found = []
        with connection.makefile("rb") as stream:
            while len(found) < answers:
                assert b" 200 " in (status := stream.readline()), status
                head = {name.strip().lower(): value for name, _, value in
                        (line.partition(b":") for line in iter(stream.readline, b"\r\n"))}
                found.append(json.loads(stream.read(int(head[b"content-length"])) or b"{}"))
        return [by_name(answer) for answer in found]


def by_name(answer: dict) -> dict:
    """Feast's order of features is another one in every process that it is started in."""
    if "results" not in answer:
        return answer
    named = zip(answer["metadata"].pop("feature_names"), answer.pop("results"), strict=True)
    return answer | {"features": dict(named)}


def test_however_a_request_is_sent_it_is_answered_as_feast_does(server):
    from fastapi.testclient import TestClient
    from feast.feature_server import get_app

    from pipeline.stores.feature_store import open_feature_store

    settings, client, _ = server
    address = "127.0.0.1", settings.ports.feast
    asked = {"feature_service": "ranking_v1", "entities": {"user_id": ["anna", "nobody"]}}
    other = {"features": ["long_term_interest:vector"], "entities": {"user_id": ["anna"]}}
    feasts = TestClient(get_app(open_feature_store(settings)))

    def over_http(through, body: dict) -> dict:
        return by_name(through.post("/get-online-features", json=body).json())

    expected, second = over_http(feasts, asked), over_http(feasts, other)
    many = other | {"entities": {"user_id": ["anna" * 50] * 500}}
    assert over_http(client, many) == over_http(feasts, many)

    def head(more: bytes, version: bytes = b"1.1") -> bytes:
        return (b"POST /get-online-features HTTP/%s\r\nHost: x\r\nContent-Type: application/json\r\n%s\r\n\r\n"
                % (version, more))

    body, next_body = json.dumps(asked).encode(), json.dumps(other).encode()
    sized, next_sized = b"Content-Length: %d" % len(body), b"Content-Length: %d" % len(next_body)
    whole, following = head(sized) + body, head(next_sized) + next_body
    assert spoken(address, whole, answers=1) == [expected]
    assert spoken(address, whole[:20], whole[20:90], whole[90:-7], whole[-7:], answers=1) == [expected]
    assert spoken(address, whole + following + whole, answers=3) == [expected, second, expected]
    assert spoken(address, whole, following, answers=2) == [expected, second]
    chunked = b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (9, body[:9], len(body) - 9, body[9:])
    assert spoken(address, head(b"Transfer-Encoding: chunked") + chunked + following, answers=2) == [expected, second]
    assert spoken(address, head(sized + b"\r\nConnection: close") + body, answers=1) == [expected]
    assert spoken(address, head(sized, b"1.0") + body, answers=1) == [expected]
    health = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    assert spoken(address, whole + health + whole, answers=3)[::2] == [expected, expected]
    metadata = dict(other, include_feature_view_version_metadata=True)
    unusual = json.dumps(metadata).encode()
    assert spoken(address, head(b"Content-Length: %d" % len(unusual)) + unusual + whole, answers=2) == [
        over_http(feasts, metadata), expected
    ]


def connections_by_worker(process: subprocess.Popen) -> list[int]:
    workers = psutil.Process(process.pid).children()
    return sorted(
        sum(one.status == psutil.CONN_ESTABLISHED for one in worker.net_connections("tcp4")) for worker in workers
    )


def test_no_worker_takes_most_of_the_clients_that_come_at_once(server):
    """About half each; a worker that is held up for long is not waited for."""
    clients = 16
    settings, client, process = server
    client.close()
    address = "127.0.0.1", settings.ports.feast
    deadline = time.monotonic() + 30
    while connections_by_worker(process) != [0, 0]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    time.sleep(0.3)                                                 # a worker looks ten times a second who hung up
    opened = [socket.create_connection(address, timeout=30) for _ in range(clients)]
    try:
        while sum(connections_by_worker(process)) < clients:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert connections_by_worker(process)[0] >= clients // 4
        asked = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
        for one in opened:
            one.sendall(asked)
        assert all(one.recv(4096).startswith(b"HTTP/1.1 200") for one in opened)
    finally:
        for one in opened:
            one.close()
