"""
The model registry: which versions there are, which of them serves, and their files.

MLflow keeps it, and leaves two promises to its callers: the aliases only move to a newer cutoff, and what is fetched is
checked byte for byte against what was registered. `registration` brings versions here, `promotions` decides about them.
"""

from __future__ import annotations

import shutil
import tempfile
from datetime import datetime
from pathlib import Path

from pipeline.errors import NotFound, UnsafeModel
from pipeline.settings import Settings
from pipeline.stores.mlflow_connection import MlflowConnection
from pipeline.stores.model_files import check_files
from pipeline.stores.model_logging import WEIGHTS
from pipeline.stores.model_versions import MODELS, Version, version_of

CHAMPION = "champion"
CHALLENGER = "challenger"


class Registry:
    """Every registered model. Opening it imports MLflow; constructing it does not."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.mlflow = MlflowConnection(settings)

    def prepare(self) -> None:
        """Create the database and one experiment and registered model each. Safe to repeat, also at once."""
        from mlflow.exceptions import MlflowException

        for name in MODELS:
            self.mlflow.experiment(name)
            try:
                self.mlflow.client.get_registered_model(name)
            except MlflowException:
                with self.mlflow.lock("prepare"):
                    if not self.mlflow.client.search_registered_models(f"name = '{name}'"):
                        self.mlflow.client.create_registered_model(name)

    def versions(self, model: str) -> list[Version]:
        """Every version of a model, oldest cutoff first."""
        found, token = [], None
        while True:
            page = self.mlflow.client.search_model_versions(f"name = '{model}'", max_results=1000, page_token=token)
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
        registered = self.mlflow.client.search_registered_models(f"name = '{model}'")
        number = registered[0].aliases.get(alias) if registered else None
        return self.version(model, int(number)) if number is not None else None

    def move_alias(self, alias: str, version: Version) -> None:
        """Point an alias to a version, unless it already points to one with the same or a newer cutoff."""
        with self.mlflow.lock(f"alias-{version.model}"):
            standing = self.aliased(version.model, alias)
            if standing is None or standing.model_cutoff < version.model_cutoff:
                self.mlflow.client.set_registered_model_alias(version.model, alias, str(version.number))

    def move_alias_back(self, alias: str, version: Version, to: Version) -> None:
        """Take an alias from a version, if that has it, and give it to an earlier one: for a rollback alone."""
        with self.mlflow.lock(f"alias-{version.model}"):
            standing = self.aliased(version.model, alias)
            if standing is not None and standing.number == version.number:
                self.mlflow.client.set_registered_model_alias(version.model, alias, str(to.number))

    def note(self, version: Version, tags: dict[str, str]) -> None:
        """Keep facts about a version that were learned after it was registered, in the order given."""
        for key, value in tags.items():
            self.mlflow.client.set_model_version_tag(version.model, str(version.number), key, value)

    def fetch(self, version: Version) -> Path:
        """A local folder with the model's files, after every byte was checked. Raises UnsafeModel."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        uri = self.mlflow.client.get_model_version_download_uri(version.model, str(version.number))
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
            return Path(self.mlflow.client.download_artifacts(version.run_id, name, str(target)))
        except (MlflowException, OSError) as error:
            raise NotFound(f"{version.name} was registered without {name}. Train it again.") from error

    def add_evidence(self, version: Version, path: Path) -> None:
        """Keep a file beside the model, in place of one of the same name."""
        self.mlflow.client.log_artifact(version.run_id, str(path))

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


def _version(entity) -> Version:
    return version_of(entity.name, entity.version, entity.run_id, entity.tags)
