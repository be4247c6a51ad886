"""
Which version serves which day, from which sequences, and which days no longer follow from them.

There is one pointer: the newest promoted release that is not withdrawn. A release is a version of the collaborative
filter with the interest version that it was tuned with, so vectors, item index and factors change together.

A day of `long_term_interest` or `recommendations` follows from the version that serves it and from the users'
sequences. When a version is promoted late, or an older day of events is restated, days that were written before are
stale. They are found and written again (`served_table`), so that any order of runs ends in the same tables.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import polars as pl

from pipeline.contracts import SEQUENCE_FEATURES, Table
from pipeline.partitions import Day
from pipeline.serving.releases import newest_sequences
from pipeline.stores.ledger import Ledger
from pipeline.stores.model_versions import Version
from pipeline.stores.registry import Registry
from pipeline.stores.tables import Lake

NO_MODEL_YET = "no model yet"


@dataclass(frozen=True)
class Timeline:
    """Which promoted version of a model serves which day: the newest one whose data ended before the day began.

    A rollback ends a version's days; those that it served before stay its own.
    """

    promoted: tuple[Version, ...]
    """oldest cutoff first"""
    releases: Timeline | None = None
    """Where given, their bound versions serve; on days before the first one, the newest promoted one does."""

    @classmethod
    def of(cls, registry: Registry, model: str) -> Timeline:
        return cls(tuple(version for version in registry.versions(model) if version.was_promoted))

    @classmethod
    def of_interest(cls, registry: Registry) -> Timeline:
        """The interest versions, which wait for their release: no vector is served that no release can read."""
        return replace(cls.of(registry, "interest_evolution"), releases=cls.of(registry, "collaborative_filter"))

    @property
    def oldest(self) -> Version | None:
        """The version that encodes what is older than all of them."""
        return self.promoted[0] if self.promoted else None

    def serving(self, day: Day) -> tuple[Version | None, bool]:
        """The version that serves a day, and whether it is another one than on the day before."""
        version, before = self.at(day.start), self.at(day.plus(-1).start)
        return version, version is not None and (before is None or before.number != version.number)

    def at(self, moment: datetime) -> Version | None:
        """The version that serves a day which begins at `moment`."""
        release = self.releases.at(moment) if self.releases is not None else None
        bound = int(release.tags["interest_version"]) if release is not None else None
        own = next((version for version in self.promoted if version.number == bound), None)
        return own or next((version for version in reversed(self.promoted) if version.serves(moment)), None)


def sequences_to_serve(lake: Lake, day: Day, everyone: bool, drafted: pl.DataFrame | None = None) -> pl.DataFrame:
    """The sequences of the users active on a day, or the newest one of everybody.

    Args:
        drafted: what the day's rows of `sequence_features` would be, where they are not to be read.
    """
    if drafted is not None:
        others = newest_sequences(lake, day.plus(-1)) if everyone else drafted.clear()
        return pl.concat([others.join(drafted, on="user_id", how="anti").select(drafted.columns), drafted])
    return newest_sequences(lake, day) if everyone else lake.current(SEQUENCE_FEATURES, day, day).collect()


def facts_of_version(table: Table, version: Version, day: Day, known_at: datetime) -> list[pl.Expr]:
    """The columns that say by which version, of which space, and when a row was made."""
    facts = {
        "space_id": version.space_id,
        "model_version": version.number,
        "model_cutoff": version.model_cutoff,
        "event_timestamp": day.as_of,
        "created": known_at,
    }
    return [pl.lit(value).cast(table.schema[name]).alias(name) for name, value in facts.items()]


def days_behind_their_sequences(lake: Lake, ledger: Ledger, table: Table, after: Day) -> list[Day]:
    """Days after `after` with a row older than the sequence it was made from, or without a user who belongs there."""
    days = [day for day in lake.days(table) if day > after]
    if not days:
        return []
    made = lake.current(table, days[0]).select("user_id", "event_timestamp", "created").collect()
    sources = lake.scan(SEQUENCE_FEATURES).select("user_id", "event_timestamp", made_at="created").collect()
    newest = sources.group_by("user_id", "event_timestamp").agg(pl.col("made_at").max()).sort("event_timestamp")
    behind = made.sort("event_timestamp").join_asof(newest, on="event_timestamp", by="user_id", check_sortedness=False)
    stale = {Day.of(moment) for moment in behind.filter(pl.col("made_at") > pl.col("created"))["event_timestamp"]}
    whole = {line.partition for line in ledger.partitions(table.name) if line.details.get("everyone")}
    for day in days:
        upto = pl.col("event_timestamp") <= day.as_of if day.key in whole else pl.col("event_timestamp") == day.as_of
        present = made.filter(pl.col("event_timestamp") == day.as_of)
        if newest.filter(upto).join(present, on="user_id", how="anti").height:
            stale.add(day)
    return sorted(stale)
