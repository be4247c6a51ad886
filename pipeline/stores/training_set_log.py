"""
What was handed out to train on, as MLflow keeps it: a run with one dataset for each set, in an experiment of its own.
"""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.settings import Settings
from pipeline.stores.mlflow_connection import MlflowConnection
from pipeline.stores.model_versions import Dataset

EXPERIMENT = "training_sets"


def note_training_set(
    dataset: Dataset, digest: str, facts: dict[str, str], manifest: Path, settings: Settings
) -> str:
    """Note a training set that was handed out, once for each digest.

    Args:
        dataset: its `path` is the file that was written, its `version` is not used.
        facts: what it was made from, written as tags.

    Returns:
        The run's id.
    """
    import mlflow.data
    from mlflow.entities import DatasetInput, InputTag

    connection = MlflowConnection(settings)
    client, experiment = connection.client, connection.experiment(EXPERIMENT)
    standing = client.search_runs([experiment], f"tags.digest = '{digest}'", max_results=1)
    if standing:
        return standing[0].info.run_id
    run = client.create_run(experiment, tags=facts | {"digest": digest}, run_name=dataset.name)
    data = mlflow.data.from_polars(dataset.sample, source=dataset.path, name=dataset.name, digest=digest[:32])
    tags = [InputTag("mlflow.data.context", "training")]
    client.log_inputs(run.info.run_id, [DatasetInput(data._to_mlflow_entity(), tags=tags)])
    client.log_artifact(run.info.run_id, str(manifest))
    client.set_terminated(run.info.run_id, "FINISHED")
    return run.info.run_id


def mark_training_sets(why: str, settings: Settings) -> list[str]:
    """Note on every set that was handed out until now that it cannot be made again; the files that were written."""
    client = MlflowConnection(settings).client
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return []
    found, token = [], None
    while True:
        page = client.search_runs([experiment.experiment_id], max_results=1000, page_token=token)
        for run in page:
            client.set_tag(run.info.run_id, "cannot_be_repeated", why)
            sources = [json.loads(given.dataset.source) for given in run.inputs.dataset_inputs]
            found += [str(source.get("uri", source)) for source in sources]
        if not (token := page.token):
            return sorted(found)
