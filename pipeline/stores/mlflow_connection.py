"""
The one way to MLflow: its client, made when it is first asked for, and the locks and experiments of its callers.
"""

from __future__ import annotations

import logging
import warnings
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from pipeline.settings import Settings, keep_libraries_quiet
from pipeline.stores.mlflow_answers import answering

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


class MlflowConnection:
    """To the MLflow that the settings name. Using it imports MLflow, which takes seconds; constructing it does not."""

    def __init__(self, settings: Settings):
        self.settings = settings

    @cached_property
    def client(self) -> MlflowClient:
        """Raises EngineFailure."""
        keep_libraries_quiet()
        from mlflow.tracking import MlflowClient

        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        uri = self.settings.mlflow_uri
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        # The first client of a new database creates its tables; MLflow uses what SQLAlchemy 2.1 has deprecated.
        with self.lock("prepare"), warnings.catch_warnings(), answering(self.settings):
            warnings.simplefilter("ignore", DeprecationWarning)
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.search_experiments(max_results=1)
            return client

    def experiment(self, name: str) -> str:
        """The id of an experiment, which is created where it does not exist."""
        if (found := self.client.get_experiment_by_name(name)) is not None:
            return found.experiment_id
        with self.lock("prepare"):
            if (found := self.client.get_experiment_by_name(name)) is not None:
                return found.experiment_id
            return self.client.create_experiment(name, artifact_location=f"{self.settings.artifacts_url}/{name}")

    def lock(self, name: str) -> FileLock:
        """Held by one process of this home at a time; not to be taken twice by the same one."""
        folder = self.settings.place("mlflow/locks")
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{name}.lock")
