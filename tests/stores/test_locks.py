"""A block that only one process at a time is in: on one machine by a file, on several by the ledger's Postgres."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.errors import EngineFailure
from pipeline.settings import Settings, Stores
from pipeline.stores.locks import alone

HOLD = """
import sys, time
from pathlib import Path
from pipeline.settings import Settings, Stores
from pipeline.stores.locks import alone
home, ledger, told = sys.argv[1:]
with alone(Settings.load(home=home, stores=Stores(ledger=ledger)), "made up"):
    Path(told).touch()
    time.sleep(600)
"""


def program(name: str) -> str | None:
    """Where a program of Postgres is; Debian keeps them out of the path."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *map(str, places)]))


@pytest.fixture(scope="module")
def postgres(tmp_path_factory) -> str:
    """The address of a Postgres of the tests' own, stopped at the end."""
    pytest.importorskip("psycopg", reason="needs psycopg, of the extra `production`")
    if program("initdb") is None:
        pytest.skip("needs Postgres (Debian: apt-get install -y postgresql)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("postgres")
    # Postgres refuses to be run by root; whoever is root lends it to the user that Debian makes for it.
    owner = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    if owner:
        place = Path("/tmp") / f"interest-postgres-{port}"
        place.mkdir()
        shutil.chown(place, "postgres", "postgres")
    else:
        place = folder
    settings = {"cwd": place, "check": True, "stdout": subprocess.DEVNULL, **owner}
    data = str(place / "data")
    subprocess.run([program("initdb"), "-D", data, "-A", "trust", "-U", "interest"], **settings)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    subprocess.run([program("pg_ctl"), "-D", data, "-w", "-l", f"{place}/log", "-o", options, "start"], **settings)
    try:
        yield f"postgresql+psycopg://interest@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([program("pg_ctl"), "-D", data, "-m", "immediate", "stop"], **settings)
        shutil.rmtree(place, ignore_errors=True)


def holding(settings: Settings, told: Path) -> subprocess.Popen:
    """Another process that is inside the block."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(settings.home), settings.ledger_url, str(told)])
    deadline = time.monotonic() + 60
    while not told.exists():
        assert process.poll() is None and time.monotonic() < deadline, "the other process did not get in"
        time.sleep(0.02)
    return process


def is_kept_out_until_the_holder_dies(settings: Settings, holder: subprocess.Popen, says: str) -> None:
    try:
        with pytest.raises(EngineFailure, match=says), alone(settings, "made up", patience_s=0.2):
            pytest.fail("two were in at once")
        with alone(settings, "another name", patience_s=0.2):
            pass
    finally:
        holder.kill()
        holder.wait(10)
    with alone(settings, "made up", patience_s=20):
        pass


def test_one_machine_lets_one_process_in(settings, tmp_path):
    holder = holding(settings, tmp_path / "told")
    is_kept_out_until_the_holder_dies(settings, holder, r"has held .*made up\.lock for 0 seconds.*Nothing was written")


@pytest.mark.fault("two machines in one step")
def test_two_machines_with_one_postgres_let_one_process_in(postgres, tmp_path):
    one, two = (Settings.load(home=tmp_path / name, stores=Stores(ledger=postgres)) for name in ("one", "two"))
    holder = holding(one, tmp_path / "told")
    is_kept_out_until_the_holder_dies(two, holder, "maybe of another machine, has held the ledger's lock 'made up'")


def test_a_postgres_that_is_away_is_told(tmp_path):
    pytest.importorskip("psycopg", reason="needs psycopg, of the extra `production`")
    away = Settings.load(home=tmp_path, stores=Stores(ledger="postgresql+psycopg://interest@127.0.0.1:1/none"))
    with pytest.raises(EngineFailure, match=r"cannot be reached.*Nothing was written"), alone(away, "made up"):
        pytest.fail("nobody holds it, and nobody can")
