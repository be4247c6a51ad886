"""
Encodes users into `long_term_interest` with the version that serves the day, and pushes the vectors online. A day
before the first model is re-encoded in a table of its own.

The users active on the day; everybody on the first day of another version, because a vector of the old space can no
longer be compared with anything.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import polars as pl
from pydantic import BaseModel, ConfigDict

from pipeline.contracts import LONG_TERM_INTEREST, LONG_TERM_INTEREST_MAPPED, LONG_TERM_INTEREST_REENCODED
from pipeline.features.histories import Histories
from pipeline.models.interest_evolution import InterestEvolutionModel
from pipeline.observability import get_logger
from pipeline.partitions import Day
from pipeline.serving.releases import load_interest
from pipeline.settings import Settings
from pipeline.steps.served_table import ServedTable
from pipeline.steps.serving_days import (
    NO_MODEL_YET,
    Timeline,
    days_behind_their_sequences,
    facts_of_version,
    sequences_to_serve,
)
from pipeline.steps.spaces import mapped_rows
from pipeline.stores.feature_store import push_online
from pipeline.stores.locks import alone
from pipeline.stores.model_versions import Version
from pipeline.stores.registry import Registry

MODEL = "interest_evolution"

log = get_logger(__name__)


class EmbeddedUsers(BaseModel):
    """What a day's embedding left behind. `state` is `embedded`, or says why nothing was."""

    model_config = ConfigDict(frozen=True)

    day: str
    state: str
    users: int = 0
    everyone: bool = False
    model_version: int | None = None
    space_id: str = ""
    pushed: int = 0
    """Rows that the online store took; those that it holds already, or newer ones of, are not among them."""
    mapped: int = 0
    """Vectors that were also written in the space before, for consumers who still read it."""
    reencoded: int = 0
    """Vectors of a day before the first model, written to `long_term_interest_reencoded` and served to nobody."""
    changed: bool = False
    later_days: list[str] = []
    """Days after it that were stale and were embedded again."""


def embed_users(
    day: Day, settings: Settings, known_at: datetime, everyone: bool = False, push: bool = True
) -> EmbeddedUsers:
    """Replace one day of `long_term_interest` and, with `push`, push it. Twice is the same as once.

    A day before the first model is recorded as such, and is no failure.
    """
    with alone(settings, LONG_TERM_INTEREST.name):
        embedding = _Embedding(settings, known_at, push)
        embedded = embedding.embed(day, everyone)
        later = embedding.days_behind(day)
        for other in later:
            embedding.embed(other)
        embedding.push_since(day, {day, *later})
    return embedded.model_copy(update={"later_days": [other.key for other in later]})


def restate_interest(
    settings: Settings, known_at: datetime, pushed: Collection[Day] = ()
) -> list[EmbeddedUsers]:
    """Embed again every day that was written, or skipped, before the version that serves it was promoted.

    Args:
        pushed: days that the caller has just pushed.
    """
    with alone(settings, LONG_TERM_INTEREST.name):
        embedding = _Embedding(settings, known_at)
        days = embedding.days_of_another_version()
        embedded = [embedding.embed(day) for day in days]
        embedding.push_present({*days, *pushed})
    return embedded


def draft_interest(
    day: Day, settings: Settings, known_at: datetime, sequences: pl.DataFrame | None = None
) -> pl.DataFrame:
    """What a day of `long_term_interest` would hold, from these sequences or those that stand. Nothing is written."""
    return _Embedding(settings, known_at).draft(day, sequences)


class _Embedding(ServedTable):
    """A version's weights are read once."""

    table = LONG_TERM_INTEREST
    beside = (LONG_TERM_INTEREST_MAPPED,)

    def __init__(self, settings: Settings, known_at: datetime, push: bool = True):
        super().__init__(settings, known_at, push)
        self.models: dict[int, InterestEvolutionModel] = {}

    def timeline_of(self, registry: Registry) -> Timeline:
        return Timeline.of_interest(registry)

    def embed(self, day: Day, everyone: bool = False) -> EmbeddedUsers:
        if self.timeline.serving(day)[0] is not None:
            self.end_reencoding(day)
        served = self.serve(day, everyone)
        if served is None:
            reencoded = self.reencode(day)
            log.info("no users embedded", partition=day.key, reason=NO_MODEL_YET, reencoded=reencoded)
            return EmbeddedUsers(day=day.key, state=NO_MODEL_YET, reencoded=reencoded)
        embedded = EmbeddedUsers(
            day=day.key,
            state="embedded",
            users=served.rows.height,
            everyone=served.everyone,
            **self.facts_of(served.version),
            pushed=served.pushed,
            mapped=self.map(day, served.standing, served.version),
            changed=served.changed,
        )
        log.info("users embedded", partition=day.key, **embedded.model_dump(exclude={"day", "later_days"}))
        return embedded

    def days_behind(self, day: Day) -> list[Day]:
        reencoded = days_behind_their_sequences(self.lake, self.ledger, LONG_TERM_INTEREST_REENCODED, day)
        return sorted({*super().days_behind(day), *reencoded})

    def days_of_another_version(self) -> list[Day]:
        return sorted({*super().days_of_another_version(), *self.days_to_reencode()})

    def map(self, day: Day, standing: pl.DataFrame, version: Version) -> int:
        """Write and push the day's vectors in the space before, while somebody reads it."""
        if version.tags.get("previous_space") not in self.settings.spaces.still_read or "space_map" not in version.tags:
            return 0
        rows, table = mapped_rows(standing, version, self.registry), LONG_TERM_INTEREST_MAPPED
        details = {"model_version": version.number, "space_id": version.tags["previous_space"]}
        self.replace(table, day, rows, details)
        if self.push:
            push_online(self.settings, table.name, self.lake.current(table, day, day).collect())
        return rows.height

    def reencode(self, day: Day) -> int:
        """Encode a day that no model may serve with the oldest one, in the table that says so. Nothing is pushed."""
        oldest = self.timeline.oldest
        if oldest is None:
            return 0
        rows = self.rows_of(sequences_to_serve(self.lake, day, everyone=False), oldest, day)
        details = {"model_version": oldest.number, "space_id": oldest.space_id}
        self.replace(LONG_TERM_INTEREST_REENCODED, day, rows, details)
        return rows.height

    def end_reencoding(self, day: Day) -> None:
        """A day that a model may serve has no re-encoded rows, whatever it had before that model was promoted."""
        table = LONG_TERM_INTEREST_REENCODED
        line = self.ledger.partition(table.name, day.key)
        if line is not None and line.state == "published":
            details = {"reason": "a model serves the day"}
            self.replace(table, day, table.empty(), details)

    def days_to_reencode(self) -> list[Day]:
        """The days without a model that were not re-encoded, or by another version than the oldest one of now."""
        oldest = self.timeline.oldest
        lines = self.ledger.partitions(LONG_TERM_INTEREST_REENCODED.name)
        done = {line.partition: line.details.get("model_version") for line in lines}
        skipped = [line for line in self.ledger.partitions(LONG_TERM_INTEREST.name) if line.state == "skipped"]
        days = [Day.parse(line.partition) for line in skipped if done.get(line.partition) != (oldest and oldest.number)]
        return [day for day in days if self.timeline.serving(day)[0] is None]

    def rows_of(self, sequences: pl.DataFrame, version: Version, day: Day) -> pl.DataFrame:
        """Rows of the contract LONG_TERM_INTEREST, one for each user of `sequences`."""
        if sequences.is_empty():
            return LONG_TERM_INTEREST.empty()
        model = self.model(version)
        histories = Histories.from_sequences(sequences, model.catalogue, model.config.event_types)
        vectors = model.encode(histories)
        schema = LONG_TERM_INTEREST.schema
        return pl.DataFrame(
            {"user_id": histories.user_ids.tolist(), "vector": vectors},
            {"user_id": pl.String(), "vector": pl.Array(pl.Float32(), vectors.shape[1])},
        ).select(
            "user_id",
            pl.col("vector").cast(schema["vector"]),
            *facts_of_version(LONG_TERM_INTEREST, version, day, self.known_at),
        )

    def model(self, version: Version) -> InterestEvolutionModel:
        if version.number not in self.models:
            self.models[version.number] = load_interest(self.registry, version)
        return self.models[version.number]
