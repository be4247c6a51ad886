"""Every Dag file: quick to parse, documented, owned, and as it was reviewed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
OUTLINE = Path(__file__).with_name("outline.txt")
DAILY = {"behavior_logs", "sequence_features", "long_term_interest", "recommendations", "online_parity"}
WEEKLY = {"interest_evolution", "collaborative_filter"}
UPKEEP = {"maintenance"}
"""Dags that make no table, and that nothing waits for."""
ON_REQUEST = {"feature_range"}
ALL = DAILY | WEEKLY | UPKEEP | ON_REQUEST


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What a fresh interpreter says about the Dag files."""
    environment = {"AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")), "PATH": "/usr/bin:/bin"}
    program = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("describe_dags.py")), str(REPO / "dags")]
    done = subprocess.run(program, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def dags(parsed: dict) -> dict[str, dict]:
    return {dag_id: facts for file in parsed["dags"].values() for dag_id, facts in file.items()}


def test_a_dag_file_holds_one_dag_of_its_own_name(parsed: dict):
    assert {file: list(found) for file, found in parsed["dags"].items()} == {n: [n] for n in ALL}


def test_a_dag_has_the_name_of_a_module_of_steps():
    steps = {file.stem for file in (REPO / "pipeline" / "steps").glob("*.py")}
    assert steps >= ALL


def test_a_dag_file_is_parsed_in_less_than_a_second(parsed: dict):
    assert max(parsed["seconds"].values()) < 1.0, parsed["seconds"]


def test_parsing_loads_no_heavy_library(parsed: dict):
    assert parsed["heavy"] == []


def test_a_dag_file_is_a_timetable_with_documentation():
    for file in (REPO / "dags").glob("*.py"):
        lines = file.read_text().splitlines()
        assert len(lines) < 80, f"{file.name} has {len(lines)} lines"
        assert lines[0] == '"""', f"{file.name} does not begin with its documentation"
        assert not [line for line in lines if "os.environ" in line or "datetime.now" in line], file.name


def test_every_dag_is_documented_tagged_and_never_catches_up(dags: dict):
    for dag_id, dag in dags.items():
        assert len(dag["doc"].split()) > 20, dag_id
        assert dag["tags"], dag_id
        assert ("weekly" in dag["tags"]) == (dag_id in WEEKLY)
        assert not dag["catchup"], dag_id


def test_every_task_has_owner_pool_retries_and_an_end(dags: dict):
    for dag_id, dag in dags.items():
        for task in dag["tasks"]:
            where = f"{dag_id}.{task['id']}"
            assert "@" in task["owner"], where
            assert task["pool"] in {"lake", "gpu"}, where
            assert task["retries"] >= 2, where
            assert task["retry_delay"] >= 30, where
            assert task["timeout"], where


def test_what_another_try_cannot_help_is_never_retried(dags: dict):
    from pipeline import errors

    def below(error: type) -> set[type]:
        return {error} | {found for child in error.__subclasses__() for found in below(child)}

    for error in below(errors.InterestError):
        assert issubclass(error, errors.NEVER_RETRIED) == (not error.retry), error
    expected = [",".join(f"pipeline.errors.{error.__name__}" for error in errors.NEVER_RETRIED)]
    assert all(task["never_retried"] == expected for dag in dags.values() for task in dag["tasks"])


def test_training_waits_for_a_gpu_where_there_is_one(dags: dict):
    trainings = [task for dag_id in WEEKLY for task in dags[dag_id]["tasks"] if task["id"] in {"train", "gate"}]
    assert len(trainings) == 4
    assert {(task["pool"], task["queue"]) for task in trainings} == {("gpu", "gpu")}


def test_a_week_of_a_backfill_trains_nothing_and_says_why(tmp_path: Path):
    environment = {"AIRFLOW_HOME": str(tmp_path), "INTEREST_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}
    program = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("call_trainings.py")), str(REPO / "dags")]
    done = subprocess.run(program, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]).startswith("skipped: backfill abc123 trains nothing")
    assert not (tmp_path / "home").exists()


def test_the_outline_of_every_dag_is_the_reviewed_one(dags: dict):
    """When it differs on purpose: read the difference, then write the new outline into outline.txt."""
    assert outline_of(dags) == OUTLINE.read_text()


def outline_of(dags: dict) -> str:
    lines: list[str] = []
    for dag_id, dag in sorted(dags.items()):
        lines.append(f"{dag_id}: {dag['timetable']}; {dag['max_active_runs']} run at a time; {', '.join(dag['tags'])}")
        for task in dag["tasks"]:
            after = f" after {', '.join(task['after'])}" if task["after"] else ""
            outlets = f" -> {', '.join(task['outlets'])}" if task["outlets"] else ""
            lines.append(
                f"    {task['id']}{after}{outlets}: pool {task['pool']}, queue {task['queue']}, "
                f"{task['retries']} retries after {task['retry_delay']:.0f} s, at most {task['timeout'] / 3600:.0f} h"
            )
    return "\n".join(lines) + "\n"
