"""The feature server keeps what it answered over HTTP, and the replay finds it right."""

import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import httpx
import polars as pl
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
            yield settings, client
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

    settings, client = server
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
