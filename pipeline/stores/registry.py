"""
The model registry: MLflow, with the promises that MLflow leaves to its callers.

One version for each run key, whatever crashed or ran twice. A version is promoted or held once, with its reasons; the
aliases only move to a newer cutoff. What is fetched is checked byte for byte against what was registered.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from pipeline.errors import EngineFailure, NotFound, UnsafeModel, UserMistake
from pipeline.faults import reach
from pipeline.settings import Settings, keep_libraries_quiet
from pipeline.stores.ledger import Ledger, Promotion
from pipeline.stores.mlflow_answers import answering
from pipeline.stores.model_files import check_files, write_manifest
from pipeline.stores.model_logging import WEIGHTS, log_model
from pipeline.stores.model_versions import BACKTEST, Card, Dataset, Status, Version, tags_of, version_of

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

MODELS = ("interest_evolution", "collaborative_filter")
TRAINING_SETS = "training_sets"
"""The experiment that keeps what was handed out to train on."""
CHAMPION = "champion"
CHALLENGER = "challenger"


class Registry:
    """Every registered model. Opening it imports MLflow; constructing it does not."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.ledger = Ledger(settings.ledger_url)

    def prepare(self) -> None:
        """Create the database and one experiment and registered model each. Safe to repeat, also at once."""
        from mlflow.exceptions import MlflowException

        for name in MODELS:
            if self._client.get_experiment_by_name(name) is None:
                with self._lock("prepare"):
                    if self._client.get_experiment_by_name(name) is None:
                        self._client.create_experiment(name, artifact_location=f"{self.settings.artifacts_url}/{name}")
            try:
                self._client.get_registered_model(name)
            except MlflowException:
                with self._lock("prepare"):
                    if not self._client.search_registered_models(f"name = '{name}'"):
                        self._client.create_registered_model(name)

    def versions(self, model: str) -> list[Version]:
        """Every version of a model, oldest cutoff first."""
        found, token = [], None
        while True:
            page = self._client.search_model_versions(f"name = '{model}'", max_results=1000, page_token=token)
            found += [_version(entity) for entity in page if "run_key" in entity.tags]
            if not (token := page.token):
                break
        first_of_key: dict[str, Version] = {}
        for version in sorted(found, key=lambda version: version.number):
            first_of_key.setdefault(version.run_key, version)
        return sorted(first_of_key.values(), key=lambda version: (version.model_cutoff, version.number))

    def find(self, model: str, run_key: str) -> Version | None:
        """The version that this run key registered."""
        return next((version for version in self.versions(model) if version.run_key == run_key), None)

    def registered(self, model: str, run_key: str) -> Version | None:
        """`find`, and what a crash left undone of the registration is done: the challenger alias follows."""
        version = self.find(model, run_key)
        if version is not None and BACKTEST not in version.tags:
            self._move(CHALLENGER, version)
        return version

    def version(self, model: str, number: int) -> Version:
        """Raises NotFound."""
        for version in self.versions(model):
            if version.number == int(number):
                return version
        raise NotFound(f"{model} has no version {number}. `interest status` lists the versions that exist.")

    def champion(self, model: str, at: datetime | None = None) -> Version | None:
        """The newest promoted version whose cutoff is not after `at`: what serves, or would have served, then.

        What a rollback has withdrawn serves no more, but did serve the days before it.
        """
        if at is None:
            return next((v for v in reversed(self.versions(model)) if v.status == "promoted"), None)
        return next((version for version in reversed(self.versions(model)) if version.serves(at)), None)

    def standing(self, model: str, cutoff: datetime) -> Version | None:
        """The newest promoted version with a cutoff up to `cutoff` that no rollback has withdrawn: to be built upon."""
        found = [v for v in self.versions(model) if v.status == "promoted" and v.model_cutoff <= cutoff]
        return found[-1] if found else None

    def champion_before(self, model: str, cutoff: datetime) -> Version | None:
        """The newest promoted version with an older cutoff: the one that a version of this cutoff has to beat."""
        older = [v for v in self.versions(model) if v.status == "promoted" and v.model_cutoff < cutoff]
        return older[-1] if older else None

    def aliased(self, model: str, alias: str) -> Version | None:
        """The version that carries `champion` or `challenger`."""
        registered = self._client.search_registered_models(f"name = '{model}'")
        number = registered[0].aliases.get(alias) if registered else None
        return self.version(model, int(number)) if number is not None else None

    def register(self, model: str, run_key: str, folder: Path, card: Card) -> Version:
        """Register a saved model once for its run key; a repetition returns the version that is there.

        Raises:
            EngineFailure: MLflow did not answer. Worth a retry, which goes on where this stopped.
            UnsafeModel: `folder` holds a pickle, a link, or a file of another kind that is not allowed.
        """
        digest = write_manifest(folder)
        with answering(self.settings):
            return self._register(model, run_key, folder, digest, card)

    def _register(self, model: str, run_key: str, folder: Path, digest: str, card: Card) -> Version:
        self.prepare()
        with self._lock(f"register-{run_key}"):
            if (standing := self.registered(model, run_key)) is not None:
                return standing
            reach("register.before_log")
            logged = self._logged(model, run_key, digest) or log_model(
                self._client, self._experiment(model), model, run_key, folder, digest, card
            )
            reach("register.before_version")
            direct = "://" in self.settings.mlflow_uri and not self.settings.mlflow_uri.startswith("http")
            created = self._client.create_model_version(
                model,
                # A client that opens the database itself looks a `models:/` source up in MLflow's global tracking URI.
                source=logged.artifact_location if direct else f"models:/{logged.model_id}",
                run_id=logged.source_run_id,
                model_id=logged.model_id,
                tags={**tags_of(run_key, digest, card), "status": "candidate"},
                await_creation_for=0,
            )
        version = self._settle(model, run_key, int(created.version))
        reach("register.before_alias")
        if BACKTEST not in version.tags:
            self._move(CHALLENGER, version)
        return version

    def fetch(self, version: Version) -> Path:
        """A local folder with the model's files, after every byte was checked. Raises UnsafeModel."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        uri = self._client.get_model_version_download_uri(version.model, str(version.number))
        local = self.settings.place(f"models/fetched/{version.model}/{version.number}")
        if not uri.startswith("file:") and not local.is_dir():
            self._download(uri, local)
        if uri.startswith("file:"):
            local = Path(get_artifact_repository(uri).download_artifacts(""))
        folder = local / "data" / WEIGHTS
        if not folder.is_dir():
            raise UnsafeModel(f"The files of {version.name} are missing in {local}. Train it again or roll back.")
        check_files(folder, version.tags["manifest"])
        return folder

    def evidence(self, version: Version, name: str) -> Path:
        """A file that was registered beside the model, on this machine. Raises NotFound."""
        from mlflow.exceptions import MlflowException

        target = self.settings.place(f"models/fetched/{version.model}/evidence-{version.number}")
        target.mkdir(parents=True, exist_ok=True)
        try:
            return Path(self._client.download_artifacts(version.run_id, name, str(target)))
        except (MlflowException, OSError) as error:
            raise NotFound(f"{version.name} was registered without {name}. Train it again.") from error

    def add_evidence(self, version: Version, path: Path) -> None:
        """Keep a file beside the model, in place of one of the same name."""
        self._client.log_artifact(version.run_id, str(path))

    def log_training_set(self, dataset: Dataset, digest: str, facts: dict[str, str], manifest: Path) -> str:
        """Note a training set that was handed out, as a run with one MLflow dataset; once for each digest.

        Args:
            dataset: its `path` is the file that was written, its `version` is not used.
            facts: what it was made from, written as tags.

        Returns:
            The run's id.
        """
        import mlflow.data
        from mlflow.entities import DatasetInput, InputTag

        if self._client.get_experiment_by_name(TRAINING_SETS) is None:
            with self._lock("prepare"):
                if self._client.get_experiment_by_name(TRAINING_SETS) is None:
                    place = f"{self.settings.artifacts_url}/{TRAINING_SETS}"
                    self._client.create_experiment(TRAINING_SETS, artifact_location=place)
        experiment = self._experiment(TRAINING_SETS)
        standing = self._client.search_runs([experiment], f"tags.digest = '{digest}'", max_results=1)
        if standing:
            return standing[0].info.run_id
        run = self._client.create_run(experiment, tags=facts | {"digest": digest}, run_name=dataset.name)
        data = mlflow.data.from_polars(dataset.sample, source=dataset.path, name=dataset.name, digest=digest[:32])
        tags = [InputTag("mlflow.data.context", "training")]
        self._client.log_inputs(run.info.run_id, [DatasetInput(data._to_mlflow_entity(), tags=tags)])
        self._client.log_artifact(run.info.run_id, str(manifest))
        self._client.set_terminated(run.info.run_id, "FINISHED")
        return run.info.run_id

    def mark_training_sets(self, why: str) -> list[str]:
        """Note on every set that was handed out until now that it cannot be made again; the files that were written."""
        experiment = self._client.get_experiment_by_name(TRAINING_SETS)
        if experiment is None:
            return []
        found, token = [], None
        while True:
            page = self._client.search_runs([experiment.experiment_id], max_results=1000, page_token=token)
            for run in page:
                self._client.set_tag(run.info.run_id, "cannot_be_repeated", why)
                sources = [json.loads(given.dataset.source) for given in run.inputs.dataset_inputs]
                found += [str(source.get("uri", source)) for source in sources]
            if not (token := page.token):
                return sorted(found)

    def promote(self, version: Version, reasons: Sequence[str], decided_by: str, known_at: datetime) -> Version:
        """Let a version serve from its cutoff on. The champion alias follows only to a newer cutoff.

        Raises:
            UserMistake: the version was trained to look back, and can never serve.
        """
        if BACKTEST in self.version(version.model, version.number).tags:
            raise UserMistake(
                f"{version.name} is a backtest: it was trained to look back, and can never serve. Nothing has changed. "
                "Train the day anew with `interest train --as-of DAY`; the gate decides on that version."
            )
        with answering(self.settings):
            return self._decide(version, "promoted", reasons, decided_by, known_at)

    def hold(self, version: Version, reasons: Sequence[str], decided_by: str, known_at: datetime) -> Version:
        """Keep a version from serving. No champion changes."""
        with answering(self.settings):
            return self._decide(version, "held", reasons, decided_by, known_at)

    def _decide(
        self, version: Version, decision: Status, reasons: Sequence[str], decided_by: str, known_at: datetime
    ) -> Version:
        standing = self.version(version.model, version.number)
        if standing.status == decision:  # Taken before; only what a crash may have left undone is done again.
            reasons, decided_by = standing.reasons, standing.tags["decided_by"]
            known_at = datetime.fromisoformat(standing.tags["decided_at"])
        served = self.champion_before(version.model, version.model_cutoff)
        tags = {"reasons": json.dumps(list(reasons)), "decided_by": decided_by, "decided_at": known_at.isoformat()}
        # The status is written last: until then the decision does not exist, and is taken again by a retry.
        for key, value in {**tags, "status": decision}.items():
            if key == "status":
                reach("promote.before_status")
            self._client.set_model_version_tag(version.model, str(version.number), key, value)
        reach("promote.before_alias")
        if decision == "promoted":
            self._move(CHAMPION, version)
        reach("promote.before_ledger")
        self.ledger.record_promotion(
            Promotion(
                model=version.model,
                run_key=version.run_key,
                decision=decision,
                from_version=served and served.number,
                to_version=version.number,
                reasons=list(reasons),
                decided_by=decided_by,
                decided_at=known_at,
            )
        )
        return self.version(version.model, version.number)

    def withdraw(
        self, version: Version, to: Version, since: datetime, reason: str, decided_by: str, known_at: datetime
    ) -> Version:
        """Keep a promoted version from serving days from `since` on; earlier days stay its own.

        The champion alias goes back to `to`: the one move backward, and the ledger keeps it as a line of its own. A
        version that is withdrawn already stays as it is.
        """
        standing = self.version(version.model, version.number)
        if standing.status == "promoted":
            spans = [*_spans(standing), [since.isoformat(), None]]
            facts = {"by": decided_by, "at": known_at.isoformat(), "reason": reason, "to": str(to.number)}
            self._tag(standing, {f"withdrawn_{name}": fact for name, fact in facts.items()})
            # Both in this order: a version that is `rolled_back` without a span would lose its history.
            self._tag(standing, {"withdrawn": json.dumps(spans), "status": "rolled_back"})
            standing = self.version(version.model, version.number)
        with self._lock(f"alias-{version.model}"):
            carrier = self.aliased(version.model, CHAMPION)
            if carrier is not None and carrier.number == version.number:
                self._client.set_registered_model_alias(version.model, CHAMPION, str(to.number))
        self.ledger.record_promotion(rollback_of(standing))
        return standing

    def reinstate(self, version: Version, since: datetime, reason: str, decided_by: str, known_at: datetime) -> Version:
        """Let a version that was withdrawn serve again from `since` on: a rollback that goes forward."""
        standing = self.version(version.model, version.number)
        if standing.status == "rolled_back":
            *earlier, (start, _) = _spans(standing)
            spans = [*earlier, [start, since.isoformat()]] if datetime.fromisoformat(start) < since else earlier
            before = self.champion(version.model)
            self._tag(standing, {"withdrawn": json.dumps(spans), "status": "promoted"})
            self._move(CHAMPION, standing)
            self.ledger.record_promotion(
                Promotion(
                    model=standing.model,
                    run_key=f"again:{known_at.isoformat()}:{standing.run_key}",
                    decision="promoted",
                    from_version=before and before.number,
                    to_version=standing.number,
                    reasons=[reason],
                    decided_by=decided_by,
                    decided_at=known_at,
                )
            )
        return self.version(version.model, version.number)

    def note(self, version: Version, tags: dict[str, str]) -> None:
        """Keep facts about a version that were learned after it was registered, in the order given."""
        self._tag(version, tags)

    def _tag(self, version: Version, tags: dict[str, str]) -> None:
        for key, value in tags.items():
            self._client.set_model_version_tag(version.model, str(version.number), key, value)

    def _move(self, alias: str, version: Version) -> None:
        """Point an alias to a version, unless it already points to one with the same or a newer cutoff."""
        with self._lock(f"alias-{version.model}"):
            standing = self.aliased(version.model, alias)
            if standing is None or standing.model_cutoff < version.model_cutoff:
                self._client.set_registered_model_alias(version.model, alias, str(version.number))

    def _settle(self, model: str, run_key: str, number: int) -> Version:
        """Of several versions of one run key, which two machines may have made at once, keep the lowest."""
        found = self._client.search_model_versions(f"name = '{model}' and tags.run_key = '{run_key}'")
        for extra in sorted(int(entity.version) for entity in found)[1:]:
            self._client.delete_model_version(model, str(extra))
        version = self.find(model, run_key)
        if version is None:
            raise EngineFailure(
                f"{model} version {number} was registered and is gone again. Run the training once more."
            )
        return version

    def _logged(self, model: str, run_key: str, digest: str):
        """The same files, logged by an attempt that died before it registered them."""
        wanted = f"tags.run_key = '{run_key}' and tags.manifest = '{digest}'"
        found = self._client.search_logged_models([self._experiment(model)], filter_string=wanted)
        return next((logged for logged in found if str(logged.status) == "READY"), None)

    def _download(self, uri: str, target: Path) -> None:
        """Copy a remote model next to `target` and move it there whole."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
            repository = get_artifact_repository(uri, tracking_uri=self.settings.mlflow_uri)
            repository.download_artifacts("", dst_path=temporary)
            if not target.exists():
                shutil.copytree(temporary, f"{temporary}.whole")
                Path(f"{temporary}.whole").rename(target)

    def _experiment(self, model: str) -> str:
        return self._client.get_experiment_by_name(model).experiment_id

    def _lock(self, name: str) -> FileLock:
        folder = self.settings.place("mlflow/locks")
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{name}.lock")

    @cached_property
    def _client(self) -> MlflowClient:
        keep_libraries_quiet()
        from mlflow.tracking import MlflowClient

        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        uri = self.settings.mlflow_uri
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        # The first client of a new database creates its tables; MLflow uses what SQLAlchemy 2.1 has deprecated.
        with self._lock("prepare"), warnings.catch_warnings(), answering(self.settings):
            warnings.simplefilter("ignore", DeprecationWarning)
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.search_experiments(max_results=1)
            return client


def rollback_of(version: Version) -> Promotion:
    """The ledger's line about a withdrawn version, from its tags."""
    at = version.tags["withdrawn_at"]
    return Promotion(
        model=version.model,
        run_key=f"rollback:{at}:{version.run_key}",
        decision="rolled_back",
        from_version=version.number,
        to_version=int(version.tags["withdrawn_to"]),
        reasons=[version.tags["withdrawn_reason"]],
        decided_by=version.tags["withdrawn_by"],
        decided_at=datetime.fromisoformat(at),
    )


def _spans(version: Version) -> list[list[str | None]]:
    return json.loads(version.tags.get("withdrawn", "[]"))


def _version(entity) -> Version:
    return version_of(entity.name, entity.version, entity.run_id, entity.tags)
