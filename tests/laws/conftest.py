"""Real online stores for the laws: SQLite in a home of its own, and a Redis server that the tests start."""

import shutil
import socket
import subprocess
import time

import pytest

from pipeline.settings import Online, Settings

INSTALL = "Install it (Debian: apt-get install redis-server); the laws of the online store are tested on the real one."


@pytest.fixture(scope="session")
def redis_address(tmp_path_factory) -> str:
    """host:port of a Redis server without persistence, stopped at the end."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.fail(f"redis-server is not in PATH. {INSTALL}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    try:
        _wait_for(port, server)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


def _wait_for(port: int, server: subprocess.Popen) -> None:
    for _ in range(100):
        assert server.poll() is None, "redis-server ended at once"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("redis-server did not answer for 10 seconds")


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def online(request, tmp_path_factory) -> Settings:
    """Settings of a home whose definitions are applied and whose store is empty; tests use users of their own."""
    from pipeline.stores.feature_store import apply_definitions

    kind = Online()
    if request.param == "redis":
        import redis

        kind = Online(type="redis", url=request.getfixturevalue("redis_address"))
        host, port = kind.url.split(":")
        redis.Redis(host, int(port)).flushall()
    settings = Settings.load(home=tmp_path_factory.mktemp("home"), online=kind)
    apply_definitions(settings)
    return settings
