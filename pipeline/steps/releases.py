"""
Moves the one pointer that says which release serves: forward after a promotion, and to another version in a rollback.

A release is a version of the collaborative filter with the interest version that it was tuned with. The pointer moves
by one write in the registry, the status of the newest release; user vectors, item index and factors follow from it
together. What was served of earlier days stays as it was: a rollback begins with the newest day that was written, and
corrects that day for everybody, offline as a newer version of each row and online through the fence.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from time import perf_counter

from pydantic import BaseModel, ConfigDict

from pipeline.contracts import LONG_TERM_INTEREST, RECOMMENDATIONS
from pipeline.errors import NotFound, UnsafeModel, UserMistake
from pipeline.observability import get_logger
from pipeline.partitions import Day
from pipeline.serving.releases import load_release
from pipeline.settings import Settings
from pipeline.steps.long_term_interest import EmbeddedUsers, embed_users, restate_interest
from pipeline.steps.recommendations import RecommendedItems, recommend_items, restate_recommendations
from pipeline.stores.locks import alone
from pipeline.stores.model_versions import Version
from pipeline.stores.promotions import reinstate, withdraw
from pipeline.stores.registry import Registry
from pipeline.stores.tables import Lake

RELEASE = "collaborative_filter"
INTEREST = "interest_evolution"
LOCK = "release_pointer"

log = get_logger(__name__)


class RestatedRelease(BaseModel):
    """The days that were written again because another release serves them now."""

    model_config = ConfigDict(frozen=True)

    interest: list[EmbeddedUsers]
    recommendations: list[RecommendedItems]


class RolledBack(BaseModel):
    """Where the pointer stood, where it stands, and what was written so that readers follow."""

    model_config = ConfigDict(frozen=True)

    from_version: int
    to_version: int
    from_space: str
    to_space: str
    interest_version: int
    withdrawn: list[str]
    """the versions of both models that serve no more"""
    since: datetime
    """the beginning of the first day that the other release serves; days before it stay as they are"""
    reason: str
    decided_by: str
    vectors: int = 0
    """user vectors that the online store took"""
    lists: int = 0
    """lists of recommendations that the online store took"""
    seconds: float = 0.0


def restate_release(settings: Settings, known_at: datetime, pushed: Collection[Day] = ()) -> RestatedRelease:
    """Rewrite the days of vectors and recommendations that another release serves now. Twice is the same as once.

    Args:
        pushed: days that the caller has just pushed.
    """
    return RestatedRelease(
        interest=restate_interest(settings, known_at, pushed),
        recommendations=restate_recommendations(settings, known_at, pushed),
    )


def roll_back(
    to: int | None, reason: str, decided_by: str, settings: Settings, known_at: datetime
) -> RolledBack:
    """Serve with another release, at once and on the days to come, until a newer one is promoted.

    Named by its number, a release that serves already is only written out once more: after a crash this finishes what
    was begun.

    Args:
        to: the number of the release; None for the one that served before the present one.

    Raises:
        NotFound: no such version, or nothing to go back to.
        UserMistake: the version was never promoted.
        UnsafeModel: the version's files have changed, or this code cannot read them; nothing moved.
    """
    began = perf_counter()
    with alone(settings, LOCK):
        registry = Registry(settings)
        moved = _move(registry, to, reason, decided_by, settings, known_at)
    vectors, lists, day = [], [], Day.of(moved.since)
    if _written_days(settings):
        vectors.append(embed_users(day, settings, known_at, everyone=True))
        lists.append(recommend_items(day, settings, known_at))
    restated = restate_release(settings, known_at, {day} if vectors else ())
    moved = moved.model_copy(
        update={
            "vectors": sum(done.pushed for done in [*vectors, *restated.interest]),
            "lists": sum(done.pushed for done in [*lists, *restated.recommendations]),
            "seconds": perf_counter() - began,
        }
    )
    log.info("rolled back", **moved.model_dump(mode="json"))
    return moved


def _move(
    registry: Registry, to: int | None, reason: str, decided_by: str, settings: Settings, known_at: datetime
) -> RolledBack:
    """Move the pointer in the registry; older versions first, so that it moves once, with the last write."""
    releases = registry.versions(RELEASE)
    current = registry.champion(RELEASE)
    if current is None:
        raise NotFound("No release was promoted, so there is nothing to roll back. `interest status` lists versions.")
    target = _target(registry, releases, current, to)
    interest = registry.version(INTEREST, int(target.tags["interest_version"]))
    try:
        load_release(registry, target)  # Before anything moves: every byte is checked, and this code can read it.
    except (KeyError, ValueError) as error:
        raise UnsafeModel(
            f"{target.name} cannot be read by this code ({type(error).__name__}: {error}): it was saved by another "
            "version of it. Nothing moved. Choose another release with --to, or run the code that saved it."
        ) from error
    since = _since(settings, current)
    decision = (since, reason, decided_by, known_at)
    withdrawn = []
    for versions, goal in ((registry.versions(INTEREST), interest), (releases, target)):
        if goal.status == "rolled_back":
            reinstate(registry, goal, *decision)
        for version in versions:
            if version.status == "promoted" and version.model_cutoff > goal.model_cutoff:
                withdraw(registry, version, goal, *decision)
                withdrawn.append(version.name)
    return RolledBack(
        from_version=current.number,
        to_version=target.number,
        from_space=current.space_id,
        to_space=target.space_id,
        interest_version=interest.number,
        withdrawn=withdrawn,
        since=since,
        reason=reason,
        decided_by=decided_by,
    )


def _target(registry: Registry, releases: list[Version], current: Version, to: int | None) -> Version:
    if to is None:
        before = [v for v in releases if v.status == "promoted" and v.model_cutoff < current.model_cutoff]
        if not before:
            raise NotFound(
                f"{current.name} is the only release that stands, so there is nothing to go back to. Train another "
                "one, or name a version that was rolled back with --to."
            )
        return before[-1]
    target = registry.version(RELEASE, to)
    if not target.was_promoted:
        raise UserMistake(
            f"{target.name} is {target.status}, so it never served and is no version to roll back to. "
            f"Promoted were: {', '.join(str(v.number) for v in releases if v.was_promoted)}. Nothing moved."
        )
    return target


def _since(settings: Settings, current: Version) -> datetime:
    """The newest day that was written: readers have seen it, so it is corrected; the days before it are history."""
    days = _written_days(settings)
    return days[-1].start if days else Day.of(current.model_cutoff).start


def _written_days(settings: Settings) -> list[Day]:
    lake = Lake.of(settings)
    return sorted({day for table in (LONG_TERM_INTEREST, RECOMMENDATIONS) for day in lake.days(table)})
