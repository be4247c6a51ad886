"""
`get_online_features` without the detour: bytes out of the store, Python values into the answer.

Feast turns every value into a message, copies it into the response, and turns it into Python when it is asked for.
That costs more than the store does. Here the response keeps the bytes and makes of them what is asked for
(`pipeline.stores.lean_answers`). A request that needs more of Feast (on-demand views, several entities, values of its
own) goes Feast's way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.stores import quick_feast  # noqa: F401  isort: skip

from feast import FeatureService, FeatureView, RepoConfig, ValueType
from feast.infra.registry.base_registry import BaseRegistry
from feast.online_response import OnlineResponse
from feast.utils import _get_cached_request_context

from pipeline.stores.encoding import encode_keys
from pipeline.stores.lean_answers import Column, LeanResponse

MOST_PLANS = 256

Stored = tuple[int | bytes | None, ...]
"""A row as it lies in the store: event time in microseconds since 1970, then the values of the features asked for."""


class Plan(NamedTuple):
    """How a choice of features is read the lean way."""

    join_key: str
    wanted: list[tuple[FeatureView, list[str]]]
    columns: list[list[tuple[str, ValueType]]]
    """For each view, the columns of the answer."""


_plans: dict[int, tuple[tuple, Plan | None]] = {}


class LeanReads:
    """Goes before Feast's class in the bases of an online store that has `read_stored`."""

    def read_stored(
        self, config: RepoConfig, wanted: Sequence[tuple[FeatureView, Sequence[str]]], keys: Sequence[bytes]
    ) -> list[dict[bytes, Stored]]:
        """For each view, the rows of those entities that have one. Raises EngineFailure."""
        raise NotImplementedError

    def get_online_features(
        self,
        config: RepoConfig,
        features: list[str] | FeatureService,
        entity_rows: Any,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> OnlineResponse:
        """As Feast's; the same answer, also where it is a message."""
        plan = plan_of(registry, project, features, full_feature_names)
        ids = _ids(entity_rows, plan.join_key) if plan else None
        if ids is None or include_feature_view_version_metadata:
            return super().get_online_features(
                config, features, entity_rows, registry, project, full_feature_names,
                include_feature_view_version_metadata,
            )
        keys = encode_keys(ids, plan.join_key)
        stored = self.read_stored(config, plan.wanted, list(dict.fromkeys(keys)))
        answer = []
        for columns, rows in zip(plan.columns, stored, strict=True):
            nothing = (None,) * (1 + len(columns))
            event_times, *values = zip(*[rows.get(key, nothing) for key in keys], strict=True)
            answer += [Column(*named, column, event_times) for named, column in zip(columns, values, strict=True)]
        return LeanResponse(plan.join_key, ids, answer)

    async def get_online_features_async(self, *asked: Any, **named: Any) -> OnlineResponse:
        """The same, for servers that must not wait: Feast's own asks the Redis store this way."""
        return await asyncio.to_thread(self.get_online_features, *asked, **named)


def plan_of(
    registry: BaseRegistry, project: str, features: list[str] | FeatureService, full_names: bool
) -> Plan | None:
    """The plan; None where features are not read the lean way. Raises what Feast does where there are none such.

    Feast keeps what it found in its registry until that is read again; a plan is kept as long as that is.
    """
    context = _get_cached_request_context(registry, project, features, full_names)
    kept = _plans.get(id(context))
    if kept is None or kept[0] is not context:
        if len(_plans) >= MOST_PLANS:
            _plans.clear()
        plan = None if getattr(features, "precompute_online", False) else _planned(context, full_names)
        kept = _plans[id(context)] = (context, plan)
    return kept[1]


def _planned(context: tuple, full_names: bool) -> Plan | None:
    _, on_demand, _, _, _, wanted, _, request_data, without_entity = context
    join_keys = {join_key for view, _ in wanted for join_key in view.join_keys}
    if on_demand or request_data or without_entity or len(join_keys) != 1:
        return None
    if any(view.projection.join_key_map or getattr(view.projection, "version_tag", None) for view, _ in wanted):
        return None
    columns = []
    for view, names in wanted:
        types = {field.name: field.dtype.to_value_type() for field in view.features}
        prefix = f"{view.projection.name_to_use()}__" if full_names else ""
        columns.append([(prefix + name, types[name]) for name in names])
    return Plan(*join_keys, [(view, list(names)) for view, names in wanted], columns)


def _ids(entity_rows: Any, join_key: str) -> list[str] | None:
    """The ids, where a request names its entities by texts; else None."""
    if isinstance(entity_rows, list):
        if any(len(row) != 1 or join_key not in row for row in entity_rows):
            return None
        ids = [row[join_key] for row in entity_rows]
    else:
        if set(entity_rows) != {join_key} or not isinstance(entity_rows[join_key], Sequence):
            return None
        ids = list(entity_rows[join_key])
    return ids if ids and all(type(value) is str for value in ids) else None
