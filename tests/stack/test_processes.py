"""Processes are stopped with all that they started, and nobody else's ever is."""

import json
import socket
import sys
import time

import psutil
import pytest

from pipeline.errors import BadSetting
from pipeline.settings import Settings
from pipeline.stack import processes
from pipeline.stack.embedded import require_free
from pipeline.stack.environment import stack_environment
from pipeline.stack.processes import Service

A_TREE = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"])
print("started", flush=True)
time.sleep(60)
"""


@pytest.fixture
def tree(settings):
    """A process with a child that does not obey, under the name `tree`."""
    processes.start(settings, Service("tree", [sys.executable, "-c", A_TREE]), stack_environment(settings))
    assert processes.wait_until(lambda: "started" in processes.log_tail(settings, "tree"), 20)
    time.sleep(0.5)
    yield processes.family_of(processes.running(settings)["tree"])
    processes.stop(settings)


def test_a_stopped_process_leaves_no_child_behind(settings, tree):
    assert len(tree) == 2
    assert processes.stop(settings) == ["tree"]
    assert not [member for member in tree if member.is_running() and member.status() != psutil.STATUS_ZOMBIE]
    assert processes.running(settings) == {}
    assert processes.stop(settings) == []


def test_a_pid_that_belongs_to_somebody_else_is_not_touched(settings):
    stranger = psutil.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        file = settings.place("run/scheduler.pid")
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"pid": stranger.pid, "started": stranger.create_time() - 3600}))
        assert processes.stop(settings) == []
        assert stranger.is_running()
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "started": 0}'])
def test_a_pid_file_that_a_crash_cut_short_is_no_process(settings, text):
    file = settings.place("run/scheduler.pid")
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert processes.running(settings) == {}


def test_a_port_that_is_taken_names_the_port_and_the_setting(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = Settings.load(home=home, airflow={"port": port})
        with pytest.raises(BadSetting, match=rf"{port}.*`airflow\.port`.*INTEREST_AIRFLOW__PORT"):
            require_free(settings, port, "airflow.port")
    require_free(settings, port, "airflow.port")
