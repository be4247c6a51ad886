"""Run as a program: calls the weekly task `train` as a week of a backfill would, and prints what it raised."""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

from airflow.sdk.exceptions import AirflowSkipException


def training_of(file: Path):
    spec = importlib.util.spec_from_file_location(f"called_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, file.stem)().get_task("train").python_callable


def raised_by(file: Path) -> str:
    event = SimpleNamespace(extra={"backfill": "abc123"})
    try:
        training_of(file)(partition_key="2026-03-02 (W10)", triggering_asset_events={"asset": [event]})
    except AirflowSkipException as skipped:
        return f"skipped: {skipped}"
    return "nothing"


print(json.dumps(raised_by(Path(sys.argv[1]) / "interest_evolution.py")))
