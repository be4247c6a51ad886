"""Who may ask: signed tokens with groups, checked by Feast's own server; the provider is a real one, started here."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import httpx
import jwt
import polars as pl
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from pipeline.contracts import LONG_TERM_INTEREST, SEQUENCE_FEATURES, WINDOW_DAYS
from pipeline.errors import BadSetting
from pipeline.settings import Settings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
AUDIENCE = "interest-features"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
FOREIGN_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class _Provider(BaseHTTPRequestHandler):
    """What an identity provider publishes: its addresses and the keys that it signs with."""

    def do_GET(self) -> None:
        base = f"http://127.0.0.1:{self.server.server_address[1]}"
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key())) | {"kid": "k1", "use": "sig"}
        answers = {
            "/keys": {"keys": [key]},
            "/.well-known/openid-configuration": {
                "issuer": base,
                "jwks_uri": f"{base}/keys",
                "token_endpoint": f"{base}/token",
                "authorization_endpoint": f"{base}/authorize",
            },
        }
        body = json.dumps(answers[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def token(issuer: str, *groups: str, key=KEY, **changes) -> str:
    now = int(datetime.now(UTC).timestamp())
    claims = {"sub": "s-1", "preferred_username": "reader", "groups": list(groups), "iss": issuer, "aud": AUDIENCE}
    return jwt.encode(claims | {"iat": now, "exp": now + 600} | changes, key, "RS256", headers={"kid": "k1"})


@pytest.fixture(scope="module")
def server(issuer, tmp_path_factory) -> Iterator[SimpleNamespace]:
    """Feast's feature server over a home that serves one user, with `access.check = "oidc"`."""
    from pipeline.stores.feature_store import apply_definitions, push_online

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path_factory.mktemp("home")
    access = {
        "check": "oidc",
        "discovery_url": f"{issuer}/.well-known/openid-configuration",
        "audience": AUDIENCE,
        "issuer": issuer,
        "read_online": ["shop-team"],
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in access.items()]
    (home / "settings.toml").write_text("\n".join([f"[ports]\nfeast = {port}\n[access]", *lines]))
    settings = Settings.load(home=home)
    apply_definitions(settings)
    row = {"user_id": "anna", "vector": [0.6, 0.8], "space_id": "s1", "model_version": 3, "model_cutoff": NOON}
    row |= {"event_timestamp": NOON, "created": NOON}
    push_online(settings, "long_term_interest", pl.DataFrame([row], schema=LONG_TERM_INTEREST.schema))
    log = settings.home / "server.log"
    environment = os.environ | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "INTEREST_HOME": str(settings.home)}
    with log.open("wb") as output:
        command = [sys.executable, "-m", "pipeline.cli.feature_server"]
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    # One connection a request: after a refusal Feast's server hangs up.
    alone = httpx.Limits(max_keepalive_connections=0)
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30, limits=alone)
    try:
        _wait_for(client, process, log)
        yield SimpleNamespace(settings=settings, client=client, log=log, token=partial(token, issuer))
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(client: httpx.Client, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            if client.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    pytest.fail(f"the feature server did not answer: {log.read_text()[-2000:]}")


def ask(server: SimpleNamespace, signed: str | None, **body) -> httpx.Response:
    body = body or {"feature_service": "ranking_v1"}
    headers = {"Authorization": f"Bearer {signed}"} if signed else {}
    return server.client.post("/get-online-features", json=body | {"entities": {"user_id": ["anna"]}}, headers=headers)


def write(server: SimpleNamespace, signed: str, view: str, row: dict) -> httpx.Response:
    body = {"feature_view_name": view, "df": {name: [value] for name, value in row.items()}}
    return server.client.post("/write-to-online-store", json=body, headers={"Authorization": f"Bearer {signed}"})


def row_of(counts: list[float | None], second: int, categories: tuple[str | None, ...] = ("a", "b")) -> dict:
    clocks = {name: NOON.replace(second=second).isoformat() for name in ("event_timestamp", "created")}
    windows = {f"counts_{days}d": counts for days in WINDOW_DAYS}
    lists = {"categories": list(categories), "top_categories": ["a"], **windows}
    return {"user_id": "berta", "entropy": 0.5, "num_events": 2, "active_days": 1, "days_since_previous": None} | (
        lists | clocks
    )


def test_a_reader_of_the_group_is_answered_by_service_and_by_feature(server):
    allowed = server.token("shop-team", "others")
    by_service = ask(server, allowed)
    assert by_service.status_code == 200
    names = by_service.json()["metadata"]["feature_names"]
    assert by_service.json()["results"][names.index("vector")]["values"][0] == pytest.approx([0.6, 0.8])
    assert ask(server, allowed, features=["long_term_interest:vector"]).status_code == 200


@pytest.mark.parametrize("groups", [(), ("strangers",), ("interest-read-offline",), ("interest-write",)])
def test_a_reader_of_no_or_another_group_is_refused(server, groups):
    for asked in ({"feature_service": "ranking_v1"}, {"features": ["long_term_interest:vector"]}):
        refused = ask(server, server.token(*groups), **asked)
        assert refused.status_code == 403
        assert "0.6" not in refused.text


def test_a_token_that_is_absent_old_foreign_or_for_somebody_else_opens_nothing(server):
    bad = {
        "absent": None,
        "garbage": "eyJhbGciOiJub25lIn0.e30.",
        "old": server.token("shop-team", exp=1_000_000_000),
        "foreign": server.token("shop-team", key=FOREIGN_KEY),
        "other audience": server.token("shop-team", aud="payroll"),
        "other issuer": server.token("shop-team", iss="http://127.0.0.1:1"),
    }
    assert {name: ask(server, signed).status_code for name, signed in bad.items()} == dict.fromkeys(bad, 401)


def test_only_the_group_that_writes_may_write_and_no_missing_element_gets_through(server):
    reader, writer = server.token("shop-team"), server.token("interest-write")
    assert write(server, reader, "interest_windows", row_of([0.6, 0.8], 1)).status_code == 403
    assert write(server, writer, "interest_windows", row_of([0.6, 0.8], 2)).status_code == 200
    for row in (row_of([1.0, None], 3), row_of([1.0, 1.0], 4, ("a", None))):
        refused = write(server, writer, "interest_windows", row)
        assert refused.status_code == 500 and "inside an array" in refused.text
    served = server.client.post(
        "/get-online-features",
        json={"features": ["interest_windows:counts_7d"], "entities": {"user_id": ["berta"]}},
        headers={"Authorization": f"Bearer {reader}"},
    )
    assert served.json()["results"][-1]["values"][0] == [0.6, 0.8]


def test_no_token_and_no_part_of_one_is_in_the_servers_log(server):
    sent = [server.token("shop-team"), server.token("strangers"), server.token("shop-team", key=FOREIGN_KEY)]
    sent += [server.token("shop-team", exp=1_000_000_000), "eyJhbGciOiJub25lIn0.e30.c2VjcmV0LXRva2Vu"]
    for signed in sent:
        ask(server, signed)
        write(server, signed, "interest_windows", row_of([0.6, 0.8], 4))
    log = server.log.read_text()
    assert "Permission denied" in log, "the log is there, and says what was refused"
    assert "Bearer" not in log
    for signed in sent:
        assert [part for part in signed.split(".") if len(part) > 8 and part in log] == []


@pytest.mark.parametrize(
    ("group", "action", "kind"),
    [
        ("shop-team", "READ_ONLINE", "service"),
        ("interest-read-offline", "READ_OFFLINE", "service"),
        ("interest-read-offline", "READ_OFFLINE", "view"),
        ("interest-write", "WRITE_ONLINE", "view"),
        ("interest-manage", "UPDATE", "view"),
        ("interest-manage", "DELETE", "service"),
    ],
)
def test_each_duty_belongs_to_its_group_alone(server, group, action, kind):
    """Feast's own decision, over the permissions as they lie in the registry."""
    from feast.errors import FeastPermissionError
    from feast.permissions.action import AuthzedAction
    from feast.permissions.security_manager import SecurityManager
    from feast.permissions.user import User

    from pipeline.stores.feature_store import open_feature_store

    store = open_feature_store(server.settings)
    asked = store.get_feature_service("training_v1") if kind == "service" else store.get_feature_view(
        SEQUENCE_FEATURES.name
    )
    granted = set()
    for one in ("shop-team", "interest-read-offline", "interest-write", "interest-manage", "strangers"):
        manager = SecurityManager(store.project, store.registry)
        manager.set_current_user(User("somebody", groups=[one]))
        try:
            manager.assert_permissions([asked], AuthzedAction[action])
            granted.add(one)
        except FeastPermissionError:
            pass
    assert granted == {group}


def test_other_groups_in_the_settings_are_other_permissions(server):
    from pipeline.stores.feature_store import definitions_are_applied

    assert definitions_are_applied(server.settings)
    access = server.settings.access.model_copy(update={"read_online": ("search-team",)})
    assert not definitions_are_applied(server.settings.model_copy(update={"access": access}))


def test_embedded_nobody_is_asked_and_a_check_without_a_provider_is_a_mistake(settings, monkeypatch):
    from pipeline.stores.feature_store import _described

    assert settings.access.check == "off" and "auth" not in _described(settings)
    monkeypatch.setenv("INTEREST_ACCESS__CHECK", "oidc")
    with pytest.raises(BadSetting, match="discovery_url"):
        Settings.load(home=settings.home)
