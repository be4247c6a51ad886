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
from pipeline.steps.serving_days import (
    NO_MODEL_YET,
    Timeline,
    days_behind_their_sequences,
    days_of_another_version,
    facts_of_version,
    is_for_everyone,
    record_day,
    sequences_to_serve,
    skip_day,
    write_day,
)
from pipeline.steps.spaces import mapped_rows
from pipeline.steps.unpushed import first_day_of_the_present, push_unpushed
from pipeline.stores.feature_store import push_online
from pipeline.stores.ledger import Ledger
from pipeline.stores.locks import alone
from pipeline.stores.model_versions import Version
from pipeline.stores.registry import Registry
from pipeline.stores.tables import Lake

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
        tables = (LONG_TERM_INTEREST, LONG_TERM_INTEREST_REENCODED)
        behind = [days_behind_their_sequences(embedding.lake, embedding.ledger, table, day) for table in tables]
        later = sorted({other for days in behind for other in days})
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
        days = days_of_another_version(embedding.ledger, LONG_TERM_INTEREST, embedding.timeline)
        days = sorted({*days, *embedding.days_to_reencode()})
        embedded = [embedding.embed(day) for day in days]
        present = first_day_of_the_present(embedding.lake, LONG_TERM_INTEREST, embedding.timeline)
        embedding.push_since(present, {*days, *pushed})
    return embedded


def draft_interest(
    day: Day, settings: Settings, known_at: datetime, sequences: pl.DataFrame | None = None
) -> pl.DataFrame:
    """What a day of `long_term_interest` would hold, from these sequences or those that stand. Nothing is written."""
    return _Embedding(settings, known_at).draft(day, sequences)


class _Embedding:
    """The stores of one run; a version's weights are read once."""

    def __init__(self, settings: Settings, known_at: datetime, push: bool = True):
        self.settings, self.known_at, self.push = settings, known_at, push
        self.lake = Lake.of(settings)
        self.ledger, self.registry = Ledger(settings.ledger_url), Registry(settings)
        self.timeline = Timeline.of_interest(self.registry)
        self.models: dict[int, InterestEvolutionModel] = {}

    def embed(self, day: Day, everyone: bool = False) -> EmbeddedUsers:
        version, is_new = self.timeline.serving(day)
        if version is None:
            skip_day(self.ledger, LONG_TERM_INTEREST, day, self.known_at)
            reencoded = self.reencode(day)
            log.info("no users embedded", partition=day.key, reason=NO_MODEL_YET, reencoded=reencoded)
            return EmbeddedUsers(day=day.key, state=NO_MODEL_YET, reencoded=reencoded)
        self.end_reencoding(day)
        everyone = everyone or is_for_everyone(self.ledger, LONG_TERM_INTEREST, day, is_new)
        sequences = sequences_to_serve(self.lake, day, everyone)
        rows = self.encode(sequences, version, day)
        details = {"model_version": version.number, "space_id": version.space_id, "everyone": everyone}
        stores = self.settings, self.lake, self.ledger
        committed = write_day(*stores, LONG_TERM_INTEREST, day, rows, details, self.known_at)
        # What is pushed is what stands in the table: an unchanged row keeps the time at which it was first known.
        standing = self.lake.current(LONG_TERM_INTEREST, day, day).collect()
        pushed = push_online(self.settings, LONG_TERM_INTEREST.name, standing).accepted if self.push else 0
        embedded = EmbeddedUsers(
            day=day.key,
            state="embedded",
            users=rows.height,
            everyone=everyone,
            model_version=version.number,
            space_id=version.space_id,
            pushed=pushed,
            mapped=self.map(day, standing, version),
            changed=committed.changed,
        )
        log.info("users embedded", partition=day.key, **embedded.model_dump(exclude={"day", "later_days"}))
        return embedded

    def draft(self, day: Day, sequences: pl.DataFrame | None) -> pl.DataFrame:
        version, is_new = self.timeline.serving(day)
        if version is None:
            return LONG_TERM_INTEREST.empty()
        everyone = is_for_everyone(self.ledger, LONG_TERM_INTEREST, day, is_new)
        return self.encode(sequences_to_serve(self.lake, day, everyone, sequences), version, day)

    def push_since(self, day: Day | None, pushed: Collection[Day]) -> None:
        """Push the days from `day` on that this run has not pushed; a dead one may have left them so."""
        for table in (LONG_TERM_INTEREST, LONG_TERM_INTEREST_MAPPED) if self.push else ():
            push_unpushed(self.settings, self.lake, table, day, pushed)

    def map(self, day: Day, standing: pl.DataFrame, version: Version) -> int:
        """Write and push the day's vectors in the space before, while somebody reads it."""
        if version.tags.get("previous_space") not in self.settings.spaces.still_read or "space_map" not in version.tags:
            return 0
        rows, table = mapped_rows(standing, version, self.registry), LONG_TERM_INTEREST_MAPPED
        details = {"model_version": version.number, "space_id": version.tags["previous_space"]}
        record_day(self.lake, self.ledger, table, day, rows, details, self.known_at)
        if self.push:
            push_online(self.settings, table.name, self.lake.current(table, day, day).collect())
        return rows.height

    def reencode(self, day: Day) -> int:
        """Encode a day that no model may serve with the oldest one, in the table that says so. Nothing is pushed."""
        oldest = self.timeline.oldest
        if oldest is None:
            return 0
        rows = self.encode(sequences_to_serve(self.lake, day, everyone=False), oldest, day)
        details = {"model_version": oldest.number, "space_id": oldest.space_id}
        record_day(self.lake, self.ledger, LONG_TERM_INTEREST_REENCODED, day, rows, details, self.known_at)
        return rows.height

    def end_reencoding(self, day: Day) -> None:
        """A day that a model may serve has no re-encoded rows, whatever it had before that model was promoted."""
        table = LONG_TERM_INTEREST_REENCODED
        line = self.ledger.partition(table.name, day.key)
        if line is not None and line.state == "published":
            details = {"reason": "a model serves the day"}
            record_day(self.lake, self.ledger, table, day, table.empty(), details, self.known_at)

    def days_to_reencode(self) -> list[Day]:
        """The days without a model that were not re-encoded, or by another version than the oldest one of now."""
        oldest = self.timeline.oldest
        lines = self.ledger.partitions(LONG_TERM_INTEREST_REENCODED.name)
        done = {line.partition: line.details.get("model_version") for line in lines}
        skipped = [line for line in self.ledger.partitions(LONG_TERM_INTEREST.name) if line.state == "skipped"]
        days = [Day.parse(line.partition) for line in skipped if done.get(line.partition) != (oldest and oldest.number)]
        return [day for day in days if self.timeline.serving(day)[0] is None]

    def encode(self, sequences: pl.DataFrame, version: Version, day: Day) -> pl.DataFrame:
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
