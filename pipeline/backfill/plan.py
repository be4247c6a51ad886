"""
Decides which partitions a backfill would write, and why. Pure: it is given what stands and what it would be made from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from pydantic import BaseModel, ConfigDict

MISSING = "missing"
FAILED = "failed when it was last run"
DEFINITION = "definition changed"
UNRECORDED = "written before definitions were recorded"
LATE = "late events: its landed files have changed since"
ASKED = "asked for"

WHY_NONE_GOES_BACK = (
    "a backfill writes the tables only; `interest online publish` then offers the newest rows to the fence, which "
    "refuses what is older than what is served"
)


@dataclass(frozen=True)
class Standing:
    """What the ledger says of one partition."""

    state: str
    rows: int
    definition: str
    upstream: Mapping[str, str]


@dataclass(frozen=True)
class Recipe:
    """What a partition would be made by and from now; `needs` are the tables of the same day that it is made from."""

    definition: str
    upstream: Mapping[str, str]
    needs: tuple[str, ...] = ()
    can_be_made: bool = True


@dataclass(frozen=True)
class PastRuns:
    """What earlier backfills took: seconds for a partition, by table."""

    seconds: Mapping[str, Sequence[float]] = field(default_factory=dict)


class PlannedPartition(BaseModel):
    """One partition that would be written, and every reason for it."""

    model_config = ConfigDict(frozen=True)

    table: str
    day: str
    reasons: tuple[str, ...]
    expected_rows: int | None

    @property
    def is_missing(self) -> bool:
        return MISSING in self.reasons


class Plan(BaseModel):
    """What a backfill of a range would do. Nothing was touched to make it."""

    model_config = ConfigDict(frozen=True)

    plan_id: str
    first: str
    last: str
    tables: tuple[str, ...]
    reason: str
    partitions: tuple[PlannedPartition, ...]
    cannot_be_made: tuple[str, ...] = ()
    """Days without a partition and without anything to make it from."""
    later_days: int = 0
    """Days after the range on which the users whose rows change are restated with them."""
    expected_rows: int | None = None
    expected_seconds: float | None = None
    models_retrained: tuple[str, ...] = ()
    online_keys_backward: int = 0
    online_why: str = WHY_NONE_GOES_BACK

    @property
    def days(self) -> tuple[str, ...]:
        """The days with a partition to write, in order."""
        return tuple(sorted({partition.day for partition in self.partitions}))

    def of_day(self, day: str) -> tuple[str, ...]:
        """The tables to write on a day, in the order in which they are made."""
        return tuple(partition.table for partition in self.partitions if partition.day == day)


def reasons_for(
    standing: Standing | None, recipe: Recipe, written: Sequence[str], is_asked: bool, asked_as: str = ""
) -> tuple[str, ...]:
    """Why a partition has to be written; empty where it says what it would say again.

    Args:
        written: the tables of the same day that will be written before it.
        is_asked: whether somebody asked for it, whatever stands.
    """
    reasons: list[str] = []
    if standing is None:
        reasons.append(MISSING)
    elif standing.state == "failed":
        reasons.append(FAILED)
    else:
        if not standing.definition:
            reasons.append(UNRECORDED)
        elif standing.definition != recipe.definition:
            reasons.append(DEFINITION)
        for name in sorted({*standing.upstream, *recipe.upstream} if standing.definition else ()):
            before, now = standing.upstream.get(name, ""), recipe.upstream.get(name, "")
            if before != now:
                reasons.append(LATE if name == "landing" else f"upstream version changed: {_change(name, before, now)}")
    if standing is not None:
        reasons += [f"upstream is written: {name}" for name in recipe.needs if name in written]
    if is_asked:
        reasons.append(f"{ASKED}: {asked_as}" if asked_as else ASKED)
    return tuple(reasons)


def plan_id_of(asked: Sequence[object], partitions: Sequence[PlannedPartition]) -> str:
    """The same plan has the same name."""
    facts = (list(asked), [(p.table, p.day, p.reasons) for p in partitions])
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def expected_rows(partitions: Sequence[PlannedPartition]) -> int | None:
    """None where nothing is known of any of them."""
    known = [partition.expected_rows for partition in partitions if partition.expected_rows is not None]
    return sum(known) if known else None


def expected_seconds(partitions: Sequence[PlannedPartition], past: PastRuns) -> float | None:
    """By the median of earlier backfills; None where one of the tables was never in one."""
    if any(not past.seconds.get(partition.table) for partition in partitions):
        return None
    return float(sum(median(past.seconds[partition.table]) for partition in partitions))


def _change(name: str, before: str, now: str) -> str:
    return f"{name} {before} is now {now}" if name == "model" else name
