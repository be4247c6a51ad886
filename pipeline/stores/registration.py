"""
Registers a trained model: one version for each run key, whatever crashed or ran twice.

The files are logged, then the version is made, then the challenger alias follows. A repetition goes on where an earlier
attempt stopped.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import EngineFailure
from pipeline.faults import reach
from pipeline.stores.mlflow_answers import answering
from pipeline.stores.model_files import write_manifest
from pipeline.stores.model_logging import log_model
from pipeline.stores.model_versions import BACKTEST, Card, Version, tags_of
from pipeline.stores.registry import CHALLENGER, Registry


def register(registry: Registry, model: str, run_key: str, folder: Path, card: Card) -> Version:
    """Register a saved model once for its run key; a repetition returns the version that is there.

    Raises:
        EngineFailure: MLflow did not answer. Worth a retry, which goes on where this stopped.
        UnsafeModel: `folder` holds a pickle, a link, or a file of another kind that is not allowed.
    """
    digest = write_manifest(folder)
    with answering(registry.settings):
        registry.prepare()
        with registry.mlflow.lock(f"register-{run_key}"):
            if (standing := registered(registry, model, run_key)) is not None:
                return standing
            number = _make_version(registry, model, run_key, folder, digest, card)
        version = settle(registry, model, run_key, number)
        reach("register.before_alias")
        _challenge(registry, version)
    return version


def registered(registry: Registry, model: str, run_key: str) -> Version | None:
    """The version that this run key registered; what a crash left undone of it is done: the alias follows."""
    version = registry.find(model, run_key)
    if version is not None:
        _challenge(registry, version)
    return version


def settle(registry: Registry, model: str, run_key: str, number: int) -> Version:
    """Of several versions of one run key, which two machines may have made at once, keep the lowest.

    Args:
        number: of the version that was just made.
    """
    client = registry.mlflow.client
    found = client.search_model_versions(f"name = '{model}' and tags.run_key = '{run_key}'")
    for extra in sorted(int(entity.version) for entity in found)[1:]:
        client.delete_model_version(model, str(extra))
    version = registry.find(model, run_key)
    if version is None:
        raise EngineFailure(f"{model} version {number} was registered and is gone again. Run the training once more.")
    return version


def _make_version(registry: Registry, model: str, run_key: str, folder: Path, digest: str, card: Card) -> int:
    client, experiment = registry.mlflow.client, registry.mlflow.experiment(model)
    reach("register.before_log")
    logged = _logged(registry, model, run_key, digest) or log_model(
        client, experiment, model, run_key, folder, digest, card
    )
    reach("register.before_version")
    uri = registry.settings.mlflow_uri
    direct = "://" in uri and not uri.startswith("http")
    created = client.create_model_version(
        model,
        # A client that opens the database itself looks a `models:/` source up in MLflow's global tracking URI.
        source=logged.artifact_location if direct else f"models:/{logged.model_id}",
        run_id=logged.source_run_id,
        model_id=logged.model_id,
        tags={**tags_of(run_key, digest, card), "status": "candidate"},
        await_creation_for=0,
    )
    return int(created.version)


def _logged(registry: Registry, model: str, run_key: str, digest: str):
    """The same files, logged by an attempt that died before it registered them."""
    wanted = f"tags.run_key = '{run_key}' and tags.manifest = '{digest}'"
    experiment = registry.mlflow.experiment(model)
    found = registry.mlflow.client.search_logged_models([experiment], filter_string=wanted)
    return next((logged for logged in found if str(logged.status) == "READY"), None)


def _challenge(registry: Registry, version: Version) -> None:
    if BACKTEST not in version.tags:
        registry.move_alias(CHALLENGER, version)
