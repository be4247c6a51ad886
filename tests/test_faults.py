"""Named crash points: what they do, and that nobody meets one by accident."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import faults
from pipeline.errors import BadSetting, EngineFailure
from pipeline.faults import POINTS, Fault, arm, reach
from pipeline.settings import Settings

SOURCES = Path(faults.__file__).parent


@pytest.fixture(autouse=True)
def disarmed():
    yield
    arm("")


def test_nothing_happens_unless_a_fault_is_armed(home: Path):
    Settings.load(home=home)
    for point in POINTS:
        reach(point)


def test_a_fault_happens_at_its_point_the_time_it_names(home: Path):
    Settings.load(home=home, fault="publish.before_commit:raise:2")
    reach("publish.validate")
    reach("publish.before_commit")
    with pytest.raises(EngineFailure, match=r"publish\.before_commit"):
        reach("publish.before_commit")
    reach("publish.before_commit")


def test_a_kill_ends_the_process_as_kill_9_does(home: Path):
    program = "from pipeline.settings import Settings; from pipeline.faults import reach; Settings.load(); " + (
        "reach('publish.validate'); print('alive', flush=True); reach('publish.before_commit'); print('never')"
    )
    environment = {**os.environ, "INTEREST_HOME": str(home), "INTEREST_FAULT": "publish.before_commit:kill"}
    died = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert (died.returncode, died.stdout) == (-signal.SIGKILL, "alive\n")


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("publish.befor_commit:kill", "publish.before_commit"),
        ("publish.before_commit", "kill, raise, sleep"),
        ("publish.before_commit:explode", "kill, raise, sleep"),
        ("publish.before_commit:kill:1.5", "1.5"),
        ("publish.before_commit:sleep:-1", "seconds"),
        ("publish.before_commit:kill:1:2", "publish.before_commit:kill:2"),
    ],
)
def test_a_misspelt_fault_is_refused_and_says_what_there_is(home: Path, fault: str, says: str):
    with pytest.raises(BadSetting, match="`fault`") as refused:
        Settings.load(home=home, fault=fault)
    assert says in str(refused.value)
    reach("publish.before_commit")


def test_production_takes_no_fault(home: Path, tmp_path: Path):
    with pytest.raises(BadSetting, match="production"):
        Settings.load(home=home, profile="production", fault="publish.before_commit:kill")
    (tmp_path / "production.toml").write_text('profile = "production"\nfault = "publish.before_commit:kill"\n')
    with pytest.raises(BadSetting, match="production"):
        Settings.from_file(tmp_path / "production.toml")
    reach("publish.before_commit")


def test_every_point_has_a_place_and_every_place_a_name():
    placed = {
        point
        for file in SOURCES.rglob("*.py")
        if file.name != "faults.py"
        for point in re.findall(r"\breach\(\"([^\"]+)\"\)", file.read_text())
    }
    assert placed == set(POINTS)
    assert all(str(Fault.parse(f"{point}:kill")) == f"{point}:kill:1" for point in POINTS)
