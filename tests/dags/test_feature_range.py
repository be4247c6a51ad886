"""The Dag `feature_range` on real Airflow and real Spark: the session comes from Airflow's connection."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import polars as pl
import pytest

from pipeline.contracts import BEHAVIOR_EVENTS, INTEREST_WINDOWS, PARTITION_COLUMN, SEQUENCE_FEATURES
from pipeline.errors import BadSetting
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.steps.feature_range import build_range
from pipeline.stores.tables import Lake

REPO = Path(__file__).parents[2]
BOTH = (SEQUENCE_FEATURES, INTEREST_WINDOWS)
PROVIDER = any(distributions(name="apache-airflow-providers-apache-spark"))


def content(lake: Lake) -> list[pl.DataFrame]:
    return [lake.current(table).collect().drop("created").sort(table.key) for table in BOTH]


def run_by_airflow(settings: Settings, first: Day, last: Day, folder: Path, **more: str) -> tuple[dict, str]:
    """What became of each task, and what was logged."""
    environment = os.environ | {"AIRFLOW_HOME": str(folder), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    environment |= {"AIRFLOW__CORE__DAGS_FOLDER": str(REPO / "dags"), "INTEREST_HOME": str(settings.home)} | more
    migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
    subprocess.run(migrate, env=environment, check=True, capture_output=True)
    program, out = Path(__file__).with_name("run_feature_range.py"), folder / "states.json"
    asked = [str(REPO / "dags" / "feature_range.py"), first.key, last.key, str(out)]
    done = subprocess.run([sys.executable, program, *asked], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(out.read_text()), done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not PROVIDER, reason="Airflow's provider for Spark is not installed")
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java, which is not installed")
def test_the_dag_builds_the_rows_of_one_machine_on_the_spark_of_the_connection(planted, tmp_path):
    lake = Lake.of(planted)
    wanted, last = content(lake), lake.days(BEHAVIOR_EVENTS)[-1]
    first = last.plus(-13)
    for table in BOTH:
        lake.replace_range(table, first, last, table.empty().with_columns(pl.lit("").alias(PARTITION_COLUMN)))
    versions = [lake.version(table) for table in BOTH]
    python, ran = tmp_path / "executors_python", tmp_path / "ran"
    python.write_text(f'#!/bin/sh\ntouch {ran}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    extra = {"spark.sql.execution.pyspark.python": str(python), "spark.ui.enabled": "false"}
    states, log = run_by_airflow(
        planted,
        first,
        last,
        tmp_path / "airflow",
        AIRFLOW_CONN_CLUSTER=json.dumps({"conn_type": "spark", "host": "local[2]", "extra": extra}),
        INTEREST_FEATURES__ENGINE="spark",
        INTEREST_FEATURES__SPARK_BUCKETS="2",
        INTEREST_FEATURES__SPARK_CONNECTION="cluster",
    )
    kinds = {"build": ["success", "_PySparkDecoratedOperator"], "push": ["success", "_PythonDecoratedOperator"]}
    assert states == kinds, log[-4000:]
    assert ran.exists(), "the rows were made, but not by the Python that the connection names"
    assert [now.equals(then) for now, then in zip(content(lake), wanted, strict=True)] == [True, True]
    assert [lake.version(table) for table in BOTH] == [version + 1 for version in versions]


def test_a_task_without_a_session_of_airflow_says_what_to_install(settings, known_at):
    features = settings.features.model_copy(update={"engine": "spark"})
    day = Day.parse("2026-03-01")
    with pytest.raises(BadSetting, match=r"apache-airflow-providers-apache-spark.*connection `spark_default`"):
        build_range(day, day.plus(1), settings.model_copy(update={"features": features}), known_at, session=None)
