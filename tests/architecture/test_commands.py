"""The command line as a newcomer meets it."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from pipeline.cli.app import COMMANDS, app

INTEREST = Path(sys.executable).with_name("interest")


def interest(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    environment = {"PATH": "/usr/bin:/bin", "COLUMNS": "120", **environment}
    return subprocess.run([INTEREST, *arguments], capture_output=True, text=True, env=environment, check=False)


def test_help_names_every_command():
    shown = interest("--help")
    assert shown.returncode == 0
    assert [line.split()[0] for line in shown.stdout.partition("Commands:")[2].splitlines() if line] == list(COMMANDS)


def test_help_loads_no_heavy_library():
    program = (
        "import sys; from pipeline.cli.app import app, COMMANDS, Commands; import typer.main;"
        "group = typer.main.get_command(app); [group.get_command(None, name) for name in COMMANDS];"
        "print([name for name in ('torch', 'feast', 'mlflow', 'polars', 'pandas', 'airflow') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str):
    shown = interest(command, "--help")
    assert shown.returncode == 0, shown.stderr
    assert f"Example: interest {command}" in shown.stdout
    assert "--home" in shown.stdout
    parameters = typer.main.get_command(app).get_command(None, command).params
    assert [parameter.name for parameter in parameters if not getattr(parameter, "help", None)] == []


def test_the_home_folder_may_stand_on_either_side_of_the_command(tmp_path: Path):
    for arguments in (("--home", str(tmp_path), "down"), ("down", "--home", str(tmp_path))):
        assert interest(*arguments).stdout == "nothing was running\n"


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (("down", "--home", "/etc/hostname/home"), {}, "is not a folder"),
        (("backfill", "--from", "2026-3-1", "--to", "2026-03-07"), {}, "is not a day"),
        (("backfill", "--from", "2026-03-07", "--to", "2026-03-01"), {}, "is reversed"),
        (("backfill", "--from", "2026-03-07"), {}, "belong together"),
        (("down",), {"INTEREST_AIRFLOW__PORT": "none"}, "airflow.port"),
        (("down",), {"INTEREST_SETTINGS": "nowhere.toml"}, "nowhere.toml"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path, arguments, environment, says):
    home = () if "--home" in arguments else ("--home", str(tmp_path / "home"))
    refused = interest(*home, *arguments, **environment)
    assert refused.returncode == 2, refused.stdout
    assert refused.stderr.startswith("error: ")
    assert refused.stderr.count("\n") == 1
    assert says in refused.stderr
    assert not (tmp_path / "home").exists()


def test_the_traceback_is_shown_on_request(tmp_path: Path):
    refused = interest("--debug", "--home", str(tmp_path), "backfill", "--from", "x", "--to", "y")
    assert refused.returncode == 2
    assert "Traceback" in refused.stderr
    assert refused.stderr.splitlines()[-1].startswith("error: ")


def test_what_was_not_foreseen_is_one_line_too(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "x.pid").mkdir()
    failed = interest("--home", str(tmp_path), "down")
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1
    assert "--debug" in failed.stderr


def test_control_characters_from_data_are_not_obeyed():
    from pipeline.cli.edge import escaped, one_line, print_json
    from pipeline.errors import NotFound

    assert "\x1b" not in one_line(NotFound("user \x1b[31m\nred"))
    assert escaped("[red]\x07") == r"\[red]\x07"
    with pytest.raises(ValueError):
        print_json({"score": float("nan")})
