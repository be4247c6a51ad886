"""Run as a program: parses the Dag files as Airflow does, and prints what it found as one JSON object."""

import importlib.util
import json
import sys
import time
from pathlib import Path

import airflow.sdk
from airflow.sdk import Asset

HEAVY = (
    "torch", "transformers", "feast", "pandas", "mlflow", "great_expectations", "sklearn", "scipy", "deltalake",
    "pyspark", "airflow.providers.apache.spark",
)


def timetable_of(dag) -> str:
    timetable = dag.timetable
    if dag.schedule is None:
        return "on request"
    if isinstance(timetable, airflow.sdk.CronPartitionTimetable):
        first = timetable.run_immediately
        return f"every `{timetable.expression}` UTC, the partition {timetable.run_offset:+d}, at first after {first}"
    assets = timetable.asset_condition.name
    mapper = timetable.default_partition_mapper
    if isinstance(mapper, airflow.sdk.RollupMapper):
        return f"after {type(mapper.window).__name__} of {assets}, by {type(mapper.upstream_mapper).__name__}"
    return f"after {assets}, by {type(mapper).__name__}"


def describe(dag) -> dict:
    return {
        "timetable": timetable_of(dag),
        "partitioned": type(dag.timetable).__name__,
        "tags": sorted(dag.tags),
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "doc": dag.doc_md or "",
        "tasks": [
            {
                "id": task.task_id,
                "after": sorted(task.upstream_task_ids),
                "owner": task.owner,
                "pool": task.pool,
                "queue": task.queue,
                "retries": task.retries,
                "retry_delay": task.retry_delay.total_seconds(),
                "never_retried": [rule.exception_path for rule in task.retry_policy.rules],
                "timeout": task.execution_timeout.total_seconds() if task.execution_timeout else None,
                "outlets": [outlet.name for outlet in task.outlets if isinstance(outlet, Asset)],
            }
            for task in sorted(dag.topological_sort(), key=lambda task: len(task.get_flat_relative_ids(upstream=True)))
        ],
    }


def main(folder: Path) -> None:
    before = set(sys.modules)
    seconds, dags = {}, {}
    for file in sorted(folder.glob("*.py")):
        began = time.process_time()
        spec = importlib.util.spec_from_file_location(f"parsed_{file.stem}", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        seconds[file.stem] = time.process_time() - began
        found = [value for value in vars(module).values() if isinstance(value, airflow.sdk.DAG)]
        dags[file.stem] = {dag.dag_id: describe(dag) for dag in found or _registered(module)}
    heavy = sorted(name for name in set(sys.modules) - before if name in HEAVY)
    print(json.dumps({"seconds": seconds, "dags": dags, "heavy": heavy}))


def _registered(module) -> list:
    """A Dag that its file does not bind to a name is called there once more."""
    return [value() for value in vars(module).values() if hasattr(value, "__wrapped__")]


main(Path(sys.argv[1]))
