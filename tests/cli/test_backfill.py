"""The words of `interest backfill`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.cli.planned_days import unbroken

RANGE = ("--from", "2026-03-02", "--to", "2026-03-03")


def backfill(home: Path, *arguments: str):
    return CliRunner().invoke(app, ["--home", str(home), "backfill", *arguments])


def test_a_plan_of_nothing_says_so(tmp_path: Path):
    shown = backfill(tmp_path / "home", "plan", *RANGE)
    assert shown.exit_code == 0, shown.output
    assert "2026-03-02 to 2026-03-03: nothing to do" in shown.output
    assert "no logs have landed for 2 days: 2026-03-02, 2026-03-03" in shown.output
    assert "online keys that could go backward: 0" in shown.output


def test_a_plan_is_one_json_object(tmp_path: Path):
    shown = backfill(tmp_path / "home", "plan", *RANGE, "--train-as-of", "2026-03-03", "--json")
    told = json.loads(shown.output)
    assert (told["partitions"], told["online_keys_backward"], told["expected_seconds"]) == ([], 0, 0.0)
    assert told["models_retrained"] == [
        f"{model} as of 2026-03-03, as a backtest" for model in ("interest_evolution", "collaborative_filter")
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("plan", "--from", "2026-03-02", "--to", "x"), "is not a day"),
        (("plan", *RANGE, "--tables", "items"), "does not write items"),
        (("run", "--from", "2026-03-03", "--to", "2026-03-02"), "is reversed"),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, arguments, says):
    refused = backfill(tmp_path / "home", *arguments)
    assert refused.exit_code == 2
    assert says in refused.output


def test_airflow_is_given_runs_of_days_that_follow_each_other():
    assert unbroken(["2026-02-27", "2026-02-28", "2026-03-01", "2026-03-03"]) == [
        ["2026-02-27", "2026-02-28", "2026-03-01"],
        ["2026-03-03"],
    ]
