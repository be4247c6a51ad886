"""
What MLflow is told about a model when it is registered: a run with everything on its card, and the files themselves.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from pipeline.stores.model_versions import Card, Dataset, tags_of

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from mlflow.tracking import MlflowClient

REQUIREMENTS = ("torch", "transformers", "safetensors", "polars", "numpy")
WEIGHTS = "weights"
"""The folder of the saved model inside the registered one."""


def log_model(client: MlflowClient, experiment: str, model: str, run_key: str, folder: Path, digest: str, card: Card):
    """Log a run with everything that `card` tells, and the model's files as a pyfunc without pickles."""
    import mlflow.pyfunc
    from mlflow.entities import LoggedModelOutput, Metric, Param

    tags = tags_of(run_key, digest, card)
    run = client.create_run(experiment, tags=tags, run_name=run_key)
    run_id = run.info.run_id
    logged = client.create_logged_model(experiment, model, run_id, tags, model_type=model)
    metrics = [
        Metric(_metric_name(name), float(value), run.info.start_time, step, logged.model_id)
        for name, values in {**{name: [value] for name, value in card.metrics.items()}, **card.curves}.items()
        for step, value in enumerate(values)
        if math.isfinite(value)
    ]
    params = [Param(name, str(value)[:6000]) for name, value in card.params.items()]
    for start in range(0, max(len(metrics), 1), 1000):
        client.log_batch(run_id, metrics[start : start + 1000], params if start == 0 else [])
    client.log_inputs(run_id, [_dataset_input(dataset) for dataset in card.datasets])
    for artifact in card.artifacts:
        client.log_artifact(run_id, str(artifact))
    with tempfile.TemporaryDirectory() as temporary:
        named = Path(temporary) / WEIGHTS
        shutil.copytree(folder, named)
        saved = Path(temporary) / "saved"
        mlflow.pyfunc.save_model(
            str(saved),
            loader_module=card.loader,
            data_path=str(named),
            signature=_signature(card.example, card.answer),
            input_example=card.example.to_pandas(),
            pip_requirements=[f"{name}=={installed_version(name)}" for name in REQUIREMENTS],
        )
        client.log_model_artifacts(logged.model_id, str(saved))
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
    client.set_terminated(run_id, "FINISHED")
    return client.finalize_logged_model(logged.model_id, "READY")


def _metric_name(name: str) -> str:
    """MLflow allows no `@` in a metric's name."""
    return name.replace("@", "_at_")


def _dataset_input(dataset: Dataset):
    import mlflow.data
    from mlflow.data.delta_dataset_source import DeltaDatasetSource
    from mlflow.entities import DatasetInput, InputTag

    source = DeltaDatasetSource(path=dataset.path, delta_table_version=dataset.version)
    data = mlflow.data.from_polars(dataset.sample, source=source, name=dataset.name, digest=f"v{dataset.version}")
    return DatasetInput(data._to_mlflow_entity(), tags=[InputTag("mlflow.data.context", "training")])


def _signature(example: pl.DataFrame, answer: pl.DataFrame) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, Schema

    plain = {
        pl.String(): DataType.string,
        pl.Int64(): DataType.long,
        pl.Float32(): DataType.float,
        pl.Float64(): DataType.double,
    }

    def column(name: str, dtype: pl.DataType) -> ColSpec:
        return ColSpec(Array(plain[dtype.inner]) if isinstance(dtype, pl.List) else plain[dtype], name)

    return ModelSignature(*(Schema([column(n, t) for n, t in frame.schema.items()]) for frame in (example, answer)))
