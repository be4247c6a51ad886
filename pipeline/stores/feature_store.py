"""
The feature store: definitions applied at set-up, rows pushed online through the fence.

    apply_definitions(settings)                    once, at set-up, never inside a task
    push_online(settings, "long_term_interest", rows)
    open_feature_store(settings).get_online_features(...)
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import sqlite3
import sys
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from pipeline.stores import quick_feast  # noqa: F401  isort: skip

import polars as pl
import yaml
from feast import Entity, FeatureService, FeatureStore, FeatureView, RepoConfig
from feast.data_source import DataSource
from feast.errors import FeatureViewNotFoundException, ProjectNotFoundException, ProjectObjectNotFoundException
from feast.feature_view import DUMMY_ENTITY
from feast.permissions.permission import Permission
from feast.project import Project
from feast.repo_contents import RepoContents

from pipeline.contracts import TABLES, Table
from pipeline.errors import ContractViolation, EngineFailure, NotFound
from pipeline.faults import reach
from pipeline.settings import Settings
from pipeline.stores.access import described_access
from pipeline.stores.declarations import CREATED, EVENT_TIME, declared_with
from pipeline.stores.encoding import encode_rows
from pipeline.stores.locks import alone
from pipeline.stores.online import Fenced
from pipeline.stores.online_erasure import described_tombstones
from pipeline.stores.pushed import PushedRows

REPO = Path(__file__).parents[2] / "feature_repo"
PROJECT = "interest"
ROWS_AT_ONCE = 2000
"""Rows that are encoded before they are written, so that memory does not grow with a push."""


def feature_store_yaml(settings: Settings) -> Path:
    """Where the rendered configuration lies, for Feast's own command line and servers."""
    return settings.place("feast/feature_store.yaml")


def ui_command(settings: Settings) -> list[str]:
    """Feast's web UI over the registry, after `apply_definitions`."""
    feast = [sys.executable, "-m", "pipeline.stores.quick_feast"]
    feast += ["--chdir", str(REPO), "--feature-store-yaml", str(feature_store_yaml(settings))]
    return [*feast, "ui", "--host", settings.airflow.host, "--port", str(settings.ports.feast_ui)]


def apply_definitions(settings: Settings) -> bool:
    """Register what `feature_repo/` declares and make the online tables; True where something was written.

    Safe to repeat and to call from several processes. What is applied already, to the letter, is not applied again.
    """
    with alone(settings, "feast_apply"):
        described = _described(settings)
        _render(settings, described)
        digest = _digest(settings, described)
        if _is_applied(settings, described):
            return False
        if described["registry"]["registry_type"] != "file" or "://" in described["registry"]["path"]:
            _apply(settings, described, digest)
        else:
            # Feast writes a registry file in place; readers get the whole old or the whole new one.
            standing = Path(described["registry"]["path"])
            draft = standing.with_name(f"{standing.name}.draft")
            if standing.exists():
                shutil.copyfile(standing, draft)
            else:
                draft.unlink(missing_ok=True)
            _apply(settings, described | {"registry": described["registry"] | {"path": str(draft)}}, digest)
            draft.replace(standing)
        _opened.cache_clear()
        return True


def definitions_are_applied(settings: Settings) -> bool:
    """Whether the registry holds what `feature_repo/` declares, to the letter. Reads only."""
    return _is_applied(settings, _described(settings))


def open_feature_store(settings: Settings) -> FeatureStore:
    """Feast's store over the settings' registry, offline and online stores; one for each process."""
    return _opened(yaml.safe_dump(_described(settings)), os.getpid())


def push_online(settings: Settings, view: str, frame: pl.DataFrame) -> PushedRows:
    """Serve the newest row of each entity in `frame`, unless something newer is served.

    Args:
        view: a feature view, named as its table.
        frame: rows of the table's contract; other columns are left out.

    Raises:
        ContractViolation: a column is missing or of another type, a value is missing, or the view is not for serving.
            Nothing was pushed.
        NotFound: the view was not applied.
        EngineFailure: the online store did not answer. Worth a retry.
    """
    table = next((table for table in TABLES if table.name == view), None)
    store = open_feature_store(settings)
    feature_view = _view(store, view) if table is not None else None
    if table is None or feature_view is None:
        known = ", ".join(sorted(found.name for found in store.list_feature_views(allow_cache=True)))
        raise NotFound(f"Feature view {view!r} is not applied (applied: {known or 'none'}). Nothing was pushed.")
    if not feature_view.online:
        raise ContractViolation(f"{view} is for training sets only and is never served. Nothing was pushed.")
    _check(table, frame)
    fenced = write_newest(store, feature_view, frame.select(table.names))
    return PushedRows(
        view=view, rows=fenced.accepted + fenced.refused, accepted=fenced.accepted, refused=fenced.refused
    )


def write_newest(store: FeatureStore, view: FeatureView, frame: pl.DataFrame) -> Fenced:
    """Offer the newest row of each entity to the fence of an applied view. Raises EngineFailure."""
    key, features = view.join_keys[0], [feature.name for feature in view.features]
    newest = frame.sort(key, EVENT_TIME, CREATED).unique(key, keep="last", maintain_order=True)
    online, fenced = store.provider.online_store, Fenced()
    for part in newest.iter_slices(ROWS_AT_ONCE):
        reach("push.before_batch")
        fenced += online.write_fenced(store.config, view, encode_rows(part, key, features))
    return fenced


def prepare_online(settings: Settings) -> None:
    """Make what the online store needs to take rows, where it is missing. What it holds stays as it is.

    Raises:
        EngineFailure: the online store did not answer. Worth a retry.
    """
    store = open_feature_store(settings)
    views = store.list_feature_views(allow_cache=True)
    try:
        store.provider.online_store.update(store.config, [], views, [], [], partial=True)
    except sqlite3.Error as error:
        raise EngineFailure(
            f"The online store cannot be prepared: {error}. Where its file is damaged, move it away and run "
            "`interest online rebuild`."
        ) from error


def keys_of_views(settings: Settings) -> dict[str, str]:
    """By applied view that is served, the column that names its entity; empty where nothing is applied."""
    try:
        views = open_feature_store(settings).list_feature_views(allow_cache=True)
    except FileNotFoundError:
        return {}
    return {view.name: view.join_keys[0] for view in sorted(views, key=lambda view: view.name) if view.online}


def newest_online(settings: Settings) -> dict[str, datetime | None]:
    """By applied view that is served, its newest event time; None where nothing was pushed yet."""
    store = open_feature_store(settings)
    views = sorted(store.list_feature_views(allow_cache=True), key=lambda view: view.name)
    return {view.name: store.provider.online_store.newest(store.config, view) for view in views if view.online}


def _view(store: FeatureStore, name: str):
    try:
        return store.get_feature_view(name, allow_registry_cache=True)
    except (FeatureViewNotFoundException, ProjectNotFoundException, FileNotFoundError):
        return None


def _check(table: Table, frame: pl.DataFrame) -> None:
    """Feast writes a null inside an array as 0 or an empty text, and a NaN as it is: refuse both before."""
    facts = [
        f"{name}: expected {dtype}, found {frame.schema.get(name) or 'no such column'}"
        for name, dtype in table.schema.items()
        if frame.schema.get(name) != dtype
    ]
    if not facts:
        for column in table.columns:
            series = frame[column.name]
            inner = series.explode(empty_as_null=False) if isinstance(column.dtype, pl.List) else series
            if column.required and series.null_count():
                facts.append(f"{column.name}: {series.null_count()} missing")
            if isinstance(column.dtype, pl.List) and inner.null_count() > series.null_count():
                facts.append(f"{column.name}: {inner.null_count()} missing inside arrays")
            if inner.dtype.is_float() and not inner.drop_nulls().is_finite().all():
                facts.append(f"{column.name}: NaN or infinite")
    if facts:
        raise ContractViolation(f"{table.name} was not pushed, nothing changed online: {'; '.join(facts)}.")


@lru_cache(maxsize=4)
def _opened(described: str, _process: int) -> FeatureStore:
    return FeatureStore(config=_config(yaml.safe_load(described)))


def _config(described: dict) -> RepoConfig:
    config = RepoConfig(**described)
    config.repo_path = REPO
    return config


def _described(settings: Settings) -> dict:
    """Feast's configuration for these settings: the declared one, with their stores put in."""
    described = yaml.safe_load((REPO / "feature_store.yaml").read_text(encoding="utf-8"))
    registry = settings.feast_registry_url
    is_sql = "://" in registry and not registry.startswith(("s3://", "gs://", "file://"))
    described["registry"] |= {"registry_type": "sql" if is_sql else "file", "path": registry}
    described["offline_store"] |= {"storage_options": dict(settings.stores.storage_options)}
    if settings.online.type == "redis":
        described["online_store"] = {
            "type": "pipeline.stores.online_redis.FencedRedisOnlineStore",
            "connection_string": settings.online.url,
        }
    else:
        described["online_store"] |= {"path": str(settings.online_path)}
    described["online_store"] |= described_tombstones(settings)
    if settings.access.check != "off":
        described["auth"] = described_access(settings)
    return described


def _render(settings: Settings, described: dict) -> None:
    """Readable by its owner only: the stores' addresses may carry passwords."""
    path = feature_store_yaml(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    draft.touch(mode=0o600)
    draft.write_text(yaml.safe_dump(described, sort_keys=False), encoding="utf-8")
    draft.replace(path)


def _digest(settings: Settings, described: dict) -> str:
    """Changes with the declarations, the contracts and groups that they are made from, and the stores."""
    parts = [yaml.safe_dump(described), settings.access.model_dump_json()]
    parts += [f"{table.version} {table.columns}" for table in TABLES]
    sources = [*sorted(REPO.glob("*.py")), Path(__file__), Path(__file__).with_name("declarations.py")]
    parts += [path.read_text(encoding="utf-8") for path in sources]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _is_applied(settings: Settings, described: dict) -> bool:
    """The registry says which declarations it holds; the embedded files must still be there, too.

    Looked for first: Feast makes an empty registry where it finds none.
    """
    registry = described["registry"]
    if registry["registry_type"] == "file" and "://" not in registry["path"] and not Path(registry["path"]).exists():
        return False
    if settings.online.type == "sqlite" and not settings.online_path.exists():
        return False
    try:
        project = open_feature_store(settings).registry.get_project(PROJECT)
    except (ProjectNotFoundException, ProjectObjectNotFoundException, FileNotFoundError):
        return False
    return project.tags.get("definitions") == _digest(settings, described)


def _apply(settings: Settings, described: dict, digest: str) -> None:
    from feast.repo_operations import extract_objects_for_apply_delete

    repo = _declared(settings)
    store = FeatureStore(config=_config(described))
    repo.projects.append(
        Project(
            name=PROJECT,
            description=described["project_description"],
            owner=TABLES[0].owner,
            tags={"definitions": digest},
        )
    )
    to_apply, to_delete, _, _ = extract_objects_for_apply_delete(PROJECT, store.registry, repo)
    # The project's tag says which declarations the registry holds, so it is written in every case.
    changed = [declared for declared in to_apply if not isinstance(declared, Project)]
    store.apply([*repo.projects, *changed], objects_to_delete=to_delete, partial=False)


def _declared(settings: Settings) -> RepoContents:
    """Import the declarations afresh (flat, as Feast does) for these settings, and leave no module behind."""
    names = [path.stem for path in sorted(REPO.glob("*.py"))]
    hidden = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(REPO))
    importlib.invalidate_caches()
    try:
        with declared_with(settings):
            modules = [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(REPO))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(hidden)
    found = list({id(value): value for module in modules for value in vars(module).values()}.values())

    def all_of(kind: type) -> list:
        return [value for value in found if isinstance(value, kind)]

    return RepoContents(
        projects=[],
        data_sources=all_of(DataSource),
        feature_views=all_of(FeatureView),
        on_demand_feature_views=[],
        stream_feature_views=[],
        label_views=[],
        entities=[*all_of(Entity), DUMMY_ENTITY],
        feature_services=all_of(FeatureService),
        permissions=all_of(Permission),
    )
