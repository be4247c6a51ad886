"""Run as a program: one run of the Dag `feature_range` by Airflow, in this process; writes what became of each task."""

import importlib.util
import json
import sys
from pathlib import Path

from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session


def main(file: Path, first: str, last: str, out: Path) -> None:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run = module.feature_range().test(run_conf={"first": first, "last": last})
    with create_session() as session:
        tasks = session.query(TaskInstance).filter_by(dag_id=file.stem, run_id=run.run_id)
        out.write_text(json.dumps({task.task_id: [task.state, task.operator] for task in tasks}))


main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
