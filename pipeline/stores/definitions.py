"""What is declared to Feast, as plain data: the views and services of the registry, for those who describe them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from pipeline.stores import quick_feast  # noqa: F401  isort: skip

from feast import FeatureStore, FeatureView

from pipeline.errors import NotFound
from pipeline.settings import Settings
from pipeline.stores.feature_store import open_feature_store


@dataclass(frozen=True)
class DeclaredFeature:
    name: str
    type: str
    description: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class DeclaredView:
    """A feature view; `is_personal` says whether its key names a person."""

    name: str
    description: str
    owner: str
    entity: str
    key: str
    is_personal: bool
    time_to_live: timedelta | None
    tags: Mapping[str, str]
    features: tuple[DeclaredFeature, ...]


@dataclass(frozen=True)
class DeclaredService:
    """A feature service; its features as (view, feature)."""

    name: str
    description: str
    owner: str
    tags: Mapping[str, str]
    features: tuple[tuple[str, str], ...]


def declared_views(settings: Settings) -> list[DeclaredView]:
    """The applied views by name. Raises NotFound where nothing is applied."""
    store = open_feature_store(settings)
    try:
        views = sorted(store.list_feature_views(), key=lambda view: view.name)
    except FileNotFoundError:
        views = []
    if not views:
        raise NotFound("No feature view is applied, so there is nothing to describe. Run `interest doctor --repair`.")
    return [_described(store, view) for view in views]


def declared_services(settings: Settings) -> list[DeclaredService]:
    """The applied services by name."""
    return [
        DeclaredService(
            name=service.name,
            description=service.description,
            owner=service.owner,
            tags=dict(service.tags),
            features=tuple(
                (projection.name, feature.name)
                for projection in service.feature_view_projections
                for feature in projection.features
            ),
        )
        for service in sorted(open_feature_store(settings).list_feature_services(), key=lambda service: service.name)
    ]


def _described(store: FeatureStore, view: FeatureView) -> DeclaredView:
    entity = store.get_entity(view.entities[0])
    return DeclaredView(
        name=view.name,
        description=view.description,
        owner=view.owner,
        entity=entity.name,
        key=view.join_keys[0],
        is_personal=entity.tags.get("personal") != "no",
        time_to_live=view.ttl or None,
        tags=dict(view.tags),
        features=tuple(
            DeclaredFeature(field.name, str(field.dtype), field.description, dict(field.tags))
            for field in view.features
        ),
    )
