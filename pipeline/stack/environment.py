"""Settings as Airflow reads them: environment variables for its processes and for every task that they start."""

from __future__ import annotations

import os
from pathlib import Path

import pipeline
from pipeline.settings import Settings
from pipeline.stack.secrets import ADMIN, password_file, secrets_of

ON_REQUEST_ONLY = """\
from datetime import UTC, datetime

from airflow.sdk import CronPartitionTimetable


def dag_policy(dag):
    if isinstance(dag.timetable, CronPartitionTimetable):
        dag.end_date = datetime(1970, 1, 1, tzinfo=UTC)
"""
PRELOADED = """\
import sys

if "scheduler" in sys.argv:
    from pipeline.stack.preload import load_libraries

    load_libraries()
"""


def dags_folder(settings: Settings) -> Path:
    """The folder of Dags: the setting, else `dags/` beside the package."""
    return Path(settings.airflow.dags or Path(pipeline.__file__).parents[1] / "dags").resolve()


def write_policy(settings: Settings) -> None:
    """Airflow's own file of local rules, which each of its processes reads when it starts.

    Where days are run on request only, the root Dag's timetable is ended: Airflow would otherwise start yesterday as
    soon as it is up, also where yesterday has no logs. The scheduler loads the libraries that its tasks need.
    """
    file = settings.place("airflow/config/airflow_local_settings.py")
    file.parent.mkdir(parents=True, exist_ok=True)
    rules = ["# Written by `interest`, from the settings `airflow.scheduled` and `airflow.preload`.\n"]
    rules += [] if settings.airflow.scheduled else [ON_REQUEST_ONLY]
    rules += [PRELOADED] if settings.airflow.preload else []
    file.write_text("\n".join(rules))


def airflow_url(settings: Settings) -> str:
    return f"http://{settings.airflow.host}:{settings.airflow.port}"


def stack_environment(settings: Settings) -> dict[str, str]:
    """The whole environment of a process of the stack. Makes the secrets where there are none yet."""
    kept = secrets_of(settings)
    home = settings.place("airflow")
    database = settings.airflow.database or f"sqlite:///{home / 'airflow.db'}"
    inherited = {name: value for name, value in os.environ.items() if name != "INTEREST_SETTINGS"}
    if named := os.environ.get("INTEREST_SETTINGS"):
        inherited["INTEREST_SETTINGS"] = str(Path(named).resolve())
    return inherited | {
        "INTEREST_HOME": str(settings.place("")),
        "PYTHONUNBUFFERED": "1",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # workers for a queue that nothing here fills
        "AIRFLOW_HOME": str(home),
        **({"AIRFLOW__CELERY__BROKER_URL": settings.airflow.broker} if settings.airflow.broker else {}),
        "AIRFLOW__API__BASE_URL": airflow_url(settings),
        "AIRFLOW__API__HOST": settings.airflow.host,
        "AIRFLOW__API__PORT": str(settings.airflow.port),
        "AIRFLOW__API__SECRET_KEY": kept.api_secret_key,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": kept.jwt_secret,
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder(settings)),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{airflow_url(settings)}/execution/",
        "AIRFLOW__CORE__EXECUTOR": settings.airflow.executor,
        "AIRFLOW__CORE__FERNET_KEY": kept.fernet_key,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": str(settings.airflow.parallelism),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(password_file(settings, kept)),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
    }
