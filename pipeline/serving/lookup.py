"""
Look one user up in the online store, through one feature service.

Every answer says of each view from when it is, how old it is now, and which model and space it belongs to. A user
whom nobody has seen is an answer (`not_found`), not an error.

A service promises how fresh it is kept (its tag `freshness`, else the view's). A row is `stale` when that promise is
broken: when not only this row is older, but the newest row of the whole view. The old row of a user who was away, in a
view that is kept up to date, is `found`: nothing newer is true of that user. Feast itself would serve both alike.

One answer is of one space. While a release is swapped, its vectors and its lists are replaced one after the other; a
view that does not belong to the release that serves is `withheld` until it follows.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pipeline.stores import quick_feast  # noqa: F401  isort: skip

from feast import FeatureService, FeatureStore, FeatureView
from feast.errors import FeastObjectNotFoundException
from feast.type_map import feast_value_type_to_python_type
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel, ConfigDict

from pipeline.contracts import MAX_ID_LENGTH, duration_of
from pipeline.errors import NotFound, UserMistake
from pipeline.serving.lookup_log import LookupLog
from pipeline.serving.user_ids import UserIds
from pipeline.settings import Settings
from pipeline.stores.feature_store import open_feature_store
from pipeline.stores.registered import registered_versions

USER = "user_id"
Status = Literal["found", "stale", "not_found", "withheld"]


class ViewAnswer(BaseModel):
    """What one view serves of a user. Without a row everything but the status is empty."""

    model_config = ConfigDict(frozen=True)

    status: Status
    event_time: datetime | None = None
    age_seconds: float | None = None
    promise_seconds: float | None = None
    """How old the newest row of the view may be. Beyond that, a row as old is `stale`."""
    view_age_seconds: float | None = None
    """Age of the newest row of the view, of any user; given where the row itself is older than the promise."""
    is_expired: bool = False
    """Older than the view's time to live: the owner does not stand for it any more."""
    model_version: int | None = None
    space_id: str | None = None
    withheld_for: str | None = None
    """The space of the rest of the answer, where this view's row is still, or already, of another one."""
    values: dict[str, Any] = {}


class Lookup(BaseModel):
    """What a service serves of a user: nothing (not_found), something stale, or rows that keep the promise (found)."""

    model_config = ConfigDict(frozen=True)

    user_id: str
    service: str
    status: Status
    views: dict[str, ViewAnswer]


def look_up(settings: Settings, user_id: str, service: str, now: datetime) -> Lookup:
    """What is served of a user at `now`.

    Raises:
        NotFound: no such service; the message names those that exist.
        UserMistake: an id that no log can carry.
        EngineFailure: the online store did not answer. Worth a retry.
    """
    if not 0 < len(user_id) <= MAX_ID_LENGTH:
        raise UserMistake(f"A user id has 1 to {MAX_ID_LENGTH} characters, not {len(user_id)}.")
    stored = UserIds.of(settings).stored_id(user_id)
    store = open_feature_store(settings)
    found = service_named(store, service)
    response = store.get_online_features(features=found, entity_rows=[{USER: stored}], full_feature_names=True).proto
    served = {
        name: (feast_value_type_to_python_type(result.values[0]), _time_of(result.event_timestamps[0]))
        for name, result in zip(response.metadata.feature_names.val, response.results, strict=True)
    }
    views = {}
    for projection in found.feature_view_projections:
        view = store.get_feature_view(projection.name, allow_registry_cache=True)
        names = {feature.name: f"{projection.name_to_use()}__{feature.name}" for feature in projection.features}
        answer = _answer({name: served[full] for name, full in names.items()}, view.ttl, now)
        promise = found.tags.get("freshness") or view.tags.get("freshness")
        views[projection.name] = _held_to(promise, answer, store, view, now) if promise else answer
    views = _of_one_space(views, settings)
    statuses = {answer.status for answer in views.values()}
    status: Status = next((s for s in ("stale", "found") if s in statuses), "not_found")
    asked = {p.name: [feature.name for feature in p.features] for p in found.feature_view_projections}
    answers = {name: (asked[name], view.event_time, view.values) for name, view in views.items()}
    LookupLog.of(settings).keep(stored, service, now, answers)
    return Lookup(user_id=user_id, service=service, status=status, views=views)


def _of_one_space(views: dict[str, ViewAnswer], settings: Settings) -> dict[str, ViewAnswer]:
    """The views whose rows belong to one space; the others without their rows, as `withheld`.

    Kept is the space of the release that serves, else that of the newest row. The release is only asked for in the
    moments of a swap.
    """
    spaces = {name: native_space(answer) for name, answer in views.items() if native_space(answer)}
    if len(set(spaces.values())) < 2:
        return views
    serving = [entry.version for entry in registered_versions(settings, ["collaborative_filter"])]
    kept = next((v.space_id for v in reversed(serving) if v.status == "promoted"), None)
    if kept not in spaces.values():
        kept = spaces[max(spaces, key=lambda name: (views[name].event_time, name))]
    withheld = ViewAnswer(status="withheld", withheld_for=kept)
    return {name: withheld if spaces.get(name, kept) != kept else answer for name, answer in views.items()}


def native_space(answer: ViewAnswer) -> str | None:
    """The space of the release that a row was made by; a vector mapped into an older space still belongs to its own."""
    return answer.values.get("mapped_from") or answer.space_id


def service_named(store: FeatureStore, name: str) -> FeatureService:
    """Raises NotFound, which names the services that exist."""
    try:
        return store.get_feature_service(name, allow_cache=True)
    except (FeastObjectNotFoundException, FileNotFoundError) as error:
        known = ", ".join(sorted(service.name for service in store.list_feature_services()))
        hint = f"Services: {known}." if known else "No definitions are applied yet; run `interest doctor --repair`."
        raise NotFound(f"Feature service {name!r} does not exist. {hint}") from error


def _answer(
    served: dict[str, tuple[Any, datetime | None]], time_to_live: timedelta | None, now: datetime
) -> ViewAnswer:
    event_time = next((moment for _, moment in served.values() if moment is not None), None)
    if event_time is None:
        return ViewAnswer(status="not_found")
    values = {name: value for name, (value, _) in served.items()}
    age = now - event_time
    return ViewAnswer(
        status="found",
        event_time=event_time,
        age_seconds=age.total_seconds(),
        is_expired=bool(time_to_live) and age > time_to_live,
        model_version=values.get("model_version"),
        space_id=values.get("space_id"),
        values=values,
    )


def _held_to(promise: str, answer: ViewAnswer, store: FeatureStore, view: FeatureView, now: datetime) -> ViewAnswer:
    """The answer, judged by a promise. The view is asked for its newest row only where the row itself is too old."""
    if answer.age_seconds is None:
        return answer
    seconds = duration_of(promise).total_seconds()
    facts: dict[str, Any] = {"promise_seconds": seconds}
    if answer.age_seconds > seconds:
        newest = store.provider.online_store.newest(store.config, view) or answer.event_time
        facts["view_age_seconds"] = (now - newest).total_seconds()
        if facts["view_age_seconds"] > seconds:
            facts["status"] = "stale"
    return answer.model_copy(update=facts)


def _time_of(stamp: Timestamp) -> datetime | None:
    """Feast says 1970 where it has nothing."""
    return stamp.ToDatetime(tzinfo=UTC) if stamp.ToMicroseconds() else None
