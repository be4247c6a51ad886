"""Feast's store, whose answers about users are offered to the log of look-ups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pipeline.stores import quick_feast  # noqa: F401  isort: skip

from feast import FeatureService, FeatureStore
from feast.online_response import OnlineResponse
from feast.type_map import feast_value_type_to_python_type

from pipeline.serving.lookup_log import LookupLog
from pipeline.settings import Settings
from pipeline.stores.feature_store import open_feature_store

USER = "user_id"
Rows = Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]


class KeepingFeatureStore(FeatureStore):
    """What it answers is Feast's answer."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime]):
        super().__init__(config=open_feature_store(settings).config)
        self.lookups, self.clock = LookupLog.of(settings), clock

    def get_online_features(
        self, features: Any, entity_rows: Any, full_feature_names: bool = False, **options: Any
    ) -> OnlineResponse:
        response = super().get_online_features(features, entity_rows, full_feature_names, **options)
        self._keep(features, entity_rows, full_feature_names, response)
        return response

    async def get_online_features_async(
        self, features: Any, entity_rows: Any, full_feature_names: bool = False, **options: Any
    ) -> OnlineResponse:
        response = await super().get_online_features_async(features, entity_rows, full_feature_names, **options)
        self._keep(features, entity_rows, full_feature_names, response)
        return response

    def _keep(self, features: Any, entity_rows: Rows, full_names: bool, response: OnlineResponse) -> None:
        users = entity_rows.get(USER, ()) if isinstance(entity_rows, Mapping) else [r.get(USER) for r in entity_rows]
        service = features.name if isinstance(features, FeatureService) else ""
        now = self.clock()
        for place, user in enumerate(users):
            if isinstance(user, str) and self.lookups.name_of(user, service, now) is not None:
                self.lookups.keep(user, service, now, _answers(features, full_names, response, place))


def _answers(
    features: Any, full_names: bool, response: OnlineResponse, place: int
) -> dict[str, tuple[list[str], datetime | None, dict[str, Any]]]:
    """By view: the features, the event time and the values of one entity."""
    served = dict(zip(response.proto.metadata.feature_names.val, response.proto.results, strict=True))
    answers = {}
    for view, names in _asked(features).items():
        found = [served[f"{view}__{name}" if full_names else name] for name in names]
        stamps = [result.event_timestamps[place] for result in found]
        moment = next((s.ToDatetime(tzinfo=UTC) for s in stamps if s.ToMicroseconds()), None)
        values = [feast_value_type_to_python_type(result.values[place]) for result in found]
        answers[view] = (names, moment, dict(zip(names, values, strict=True)) if moment else {})
    return answers


def _asked(features: Any) -> dict[str, list[str]]:
    if isinstance(features, FeatureService):
        return {p.name: [feature.name for feature in p.features] for p in features.feature_view_projections}
    asked: dict[str, list[str]] = {}
    for reference in features:
        view, _, name = reference.partition(":")
        asked.setdefault(view.partition("@")[0], []).append(name)
    return asked
