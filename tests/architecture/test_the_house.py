"""The shape of the house: who may import whom, what files are called, where time and the environment are read."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
FOLDERS = ("pipeline", "dags", "feature_repo", "benchmarks")
SOURCES = sorted(file for folder in FOLDERS for file in (REPO / folder).rglob("*.py"))
TOP_LEVEL = {
    ".ci", ".gitignore", "Makefile", "README.md", "benchmarks", "dags", "docs", "feature_repo", "infra", "pipeline",
    "pyproject.toml", "requirements.lock", "tests",
}
FORBIDDEN_NAMES = {"utils", "helpers", "common", "misc", "base", "manager", "processor", "handler", "core", "constants"}
CLOCK_FILES = {"pipeline/partitions.py"}
ENVIRONMENT_FILES = {"pipeline/settings/__init__.py", "pipeline/stack/environment.py"}


def lint_imports(folder: Path) -> subprocess.CompletedProcess:
    program = [str(Path(sys.executable).with_name("lint-imports")), "--config", "pyproject.toml", "--no-cache"]
    return subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False)


def test_imports_point_downward():
    found = lint_imports(REPO)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("pipeline/contracts/items.py", "from pipeline.features import histories"),
        ("pipeline/models/baselines.py", "from pipeline.stores import tables"),
        ("pipeline/stores/tables.py", "from pipeline.steps import status"),
        ("pipeline/steps/status.py", "import airflow"),
        ("pipeline/partitions.py", "import polars"),
    ],
)
def test_an_import_that_points_upward_is_found(tmp_path: Path, file: str, line: str):
    shutil.copytree(REPO / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPO / "pyproject.toml", tmp_path)
    broken = tmp_path / file
    broken.write_text(broken.read_text() + f"\n{line}\n")
    assert lint_imports(tmp_path).returncode != 0


def test_no_file_has_a_name_that_says_nothing():
    named = [f for folder in ("pipeline", "dags", "feature_repo") for f in (REPO / folder).rglob("*")]
    bad = [f for f in named if f.stem.lower() in FORBIDDEN_NAMES or re.search(r"_v\d+$", f.stem)]
    assert bad == []


def test_the_top_level_holds_what_was_agreed():
    tracked = subprocess.run(["git", "ls-files"], cwd=REPO, capture_output=True, text=True, check=True).stdout
    found = {line.split("/")[0] for line in tracked.splitlines()}
    assert found - TOP_LEVEL == set()


def test_the_environment_is_read_in_one_place():
    reading = {str(f.relative_to(REPO)) for f in SOURCES if re.search(r"os\.(environ|getenv)", f.read_text())}
    assert reading - ENVIRONMENT_FILES == set()


def test_the_clock_is_read_and_dates_are_written_in_one_place():
    pattern = re.compile(r"datetime\.(now|utcnow|today)\(|date\.today\(|\.strftime\(|time\.time\(\)")
    reading = {str(f.relative_to(REPO)) for f in SOURCES if pattern.search(f.read_text())}
    assert reading - CLOCK_FILES == set()


def test_a_step_is_told_the_time():
    """Edges ask for the present; steps, serving and logic are given it."""
    asking = {
        str(file.relative_to(REPO))
        for file in SOURCES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "utc_now"
    }
    assert {file for file in asking if not file.startswith(("dags/", "pipeline/cli/", "benchmarks/"))} == set()


def test_no_file_is_longer_than_one_idea():
    long = {str(f.relative_to(REPO)): n for f in SOURCES if (n := len(f.read_text().splitlines())) > 450}
    assert long == {}


def test_the_lock_pins_every_declared_package():
    import tomllib

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    declared = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    wanted = declared["dependencies"] + declared["optional-dependencies"]["dev"]
    lines = (REPO / "requirements.lock").read_text().splitlines()
    pins = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}
    for text in wanted:
        need = Requirement(text)
        assert need.specifier.contains(pins[canonicalize_name(need.name)]), text
