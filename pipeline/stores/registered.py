"""
The registered model versions, read without importing MLflow where its database can be asked directly.

MLflow's client takes seconds to import; a person who asks for the status should not wait for it. Only three of its
tables are read, and nothing is ever written here: the registry (`pipeline.stores.registry`) does that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import column, create_engine, inspect, select, table
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import DatabaseError

from pipeline.errors import EngineFailure
from pipeline.settings import Settings
from pipeline.stores.model_versions import Version, version_of

VERSIONS = table("model_versions", column("name"), column("version"), column("run_id"), column("current_stage"))
TAGS = table("model_version_tags", column("name"), column("version"), column("key"), column("value"))
ALIASES = table("registered_model_aliases", column("name"), column("version"), column("alias"))
DELETED = "Deleted_Internal"


@dataclass(frozen=True)
class Registered:
    """A version and the aliases that point to it."""

    version: Version
    aliases: tuple[str, ...]


def registered_versions(settings: Settings, models: Sequence[str]) -> list[Registered]:
    """Every version of the models, by model and cutoff; empty where nothing was registered.

    Raises:
        EngineFailure: the registry did not answer.
    """
    uri = settings.mlflow_uri
    if uri.startswith(("http://", "https://")):
        return _through_server(settings, models)
    url = make_url(uri)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        return []
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table(VERSIONS.name):
                return []
            return [entry for model in models for entry in _of_model(connection, model)]
    except DatabaseError as error:
        place = url.render_as_string(hide_password=True)
        raise EngineFailure(f"The model registry at {place} cannot be read: {error.orig}.") from error
    finally:
        engine.dispose()


def _of_model(connection: Connection, model: str) -> list[Registered]:
    tags: dict[int, dict[str, str]] = {}
    for number, key, value in connection.execute(
        select(TAGS.c.version, TAGS.c.key, TAGS.c.value).filter_by(name=model)
    ):
        tags.setdefault(int(number), {})[key] = value
    aliases: dict[int, list[str]] = {}
    for number, alias in connection.execute(select(ALIASES.c.version, ALIASES.c.alias).filter_by(name=model)):
        aliases.setdefault(int(number), []).append(alias)
    query = select(VERSIONS.c.version, VERSIONS.c.run_id).filter_by(name=model)
    rows = connection.execute(query.where(VERSIONS.c.current_stage != DELETED).order_by(VERSIONS.c.version))
    first_of_key: dict[str, Version] = {}
    for number, run_id in rows:
        facts = tags.get(int(number), {})
        if "run_key" in facts:
            first_of_key.setdefault(facts["run_key"], version_of(model, number, run_id or "", facts))
    ordered = sorted(first_of_key.values(), key=lambda version: (version.model_cutoff, version.number))
    return [Registered(version, tuple(sorted(aliases.get(version.number, ())))) for version in ordered]


def _through_server(settings: Settings, models: Sequence[str]) -> list[Registered]:
    from pipeline.stores.registry import CHALLENGER, CHAMPION, Registry

    registry = Registry(settings)
    found = []
    for model in models:
        holders = {alias: registry.aliased(model, alias) for alias in (CHALLENGER, CHAMPION)}
        for version in registry.versions(model):
            held = tuple(alias for alias, holder in holders.items() if holder and holder.number == version.number)
            found.append(Registered(version, held))
    return found
