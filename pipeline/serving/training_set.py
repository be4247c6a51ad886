"""
Training sets: features of a service as they were at the time of each row, and a record that can be repeated.

A row of time t is joined with the newest feature row whose event time is not after t. With `as_served` it must also
have been written by then, and not withdrawn: a correction that came later is not seen. Every row that was asked for
comes back once, in its place, with its own columns; what nobody knew is null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pipeline.stores import quick_feast  # noqa: F401  isort: skip

import polars as pl
from feast import FeatureService, FeatureStore
from pydantic import BaseModel, ConfigDict

from pipeline.contracts import TABLES, UTC_TIME, withdrawn_rows_of
from pipeline.contracts.content import content_hash
from pipeline.errors import EngineFailure, NotFound, UnreadableFile, UserMistake
from pipeline.serving.lookup import USER, service_named
from pipeline.serving.user_ids import UserIds
from pipeline.settings import Settings
from pipeline.stores.feature_store import open_feature_store
from pipeline.stores.model_versions import Dataset
from pipeline.stores.offline import UNREADABLE, reading_versions
from pipeline.stores.tables import Lake
from pipeline.stores.training_set_log import note_training_set

MOMENT = "event_timestamp"
CUTOFF = "model_cutoff"
KEYS = [USER, MOMENT]
SAMPLE_ROWS = 10


class Manifest(BaseModel):
    """What a training set was made from, and what came out. With it the same set can be had again."""

    model_config = ConfigDict(frozen=True)

    service: str
    features: tuple[str, ...]
    """view:feature, in the order of the columns"""
    versions: dict[str, int | None]
    """The Delta version of each table that was read; None: it had no commit yet."""
    as_served: bool
    allow_reencoded: bool
    rows: int
    without_features: dict[str, int]
    """By view, the rows for which it had nothing."""
    reencoded: int
    """Rows with a vector of a model that had seen data from after the row's time."""
    erased: int = 0
    """Rows that were asked for of users who were erased. They are left out."""
    entities: str = ""
    """The file that named users and moments, where there was one."""
    entities_hash: str
    content_hash: str
    known_at: datetime


@dataclass(frozen=True)
class TrainingSet:
    """The rows that were asked for, in their order and with their own columns first, and how they were made."""

    rows: pl.DataFrame
    manifest: Manifest


def training_set(
    entity_df: pl.DataFrame,
    service: str,
    settings: Settings,
    *,
    known_at: datetime,
    as_served: bool = False,
    allow_reencoded: bool = False,
    versions: Mapping[str, int | None] | None = None,
) -> TrainingSet:
    """Features of `service` for every row of `entity_df`, point in time.

    Args:
        entity_df: columns `user_id` and `event_timestamp` (a time without a zone is UTC), and any of your own, such as
            a label. A pandas frame does, too.
        as_served: also leave out what was written after the row's time, and see what was withdrawn after it.
        allow_reencoded: accept vectors of a model that was trained on data from after the row's time.
        versions: Delta versions to read, from a manifest; the newest where None.
        known_at: when the set was made, for the record.

    Raises:
        NotFound: no such service, or a version that cannot be read any more.
        UserMistake: a column is missing, or of a type that is no id or time; or vectors know the future.
    """
    store = open_feature_store(settings)
    found = service_named(store, service)
    asked, users = _checked(entity_df, found), UserIds.of(settings)
    wanted = asked.filter(~users.erased(asked[USER]))
    lake = Lake.of(settings)
    tables = {table.name: table for table in TABLES}
    used = {projection.name: tables[projection.name] for projection in found.feature_view_projections}
    beside = [withdrawn_rows_of(table) for table in used.values() if as_served and table.keeps_versions]
    read = [*used.values(), *beside]
    pinned = dict(versions) if versions is not None else {table.name: lake.version(table) for table in read}
    # Joined by the ids at rest; what comes back stands beside the ids that were asked for.
    keys = wanted.select(users.stored(wanted[USER]).alias(USER), MOMENT)
    joined = _joined(store, found, keys, as_served, pinned)
    if not joined.select(KEYS).equals(keys):
        raise EngineFailure(
            f"{joined.height} rows came back for {wanted.height} that were asked for, or others. Nothing was written; "
            "report this."
        )
    rows = wanted.hstack(joined.drop(KEYS))
    reencoded = rows.filter(pl.col(CUTOFF) > pl.col(MOMENT)).height if CUTOFF in rows.columns else 0
    if reencoded and not allow_reencoded:
        raise UserMistake(
            f"{reencoded:,} of {rows.height:,} rows would carry a vector of a model that was trained on data from "
            "after the row's time, so it knows what the row is to predict. Nothing was returned. Ask for later times, "
            "or accept it with --allow-reencoded (allow_reencoded=True)."
        )
    manifest = Manifest(
        service=service,
        features=features_of(found),
        versions=pinned,
        as_served=as_served,
        allow_reencoded=allow_reencoded,
        rows=rows.height,
        without_features={
            p.name: rows.filter(pl.all_horizontal(pl.col(f.name).is_null() for f in p.features)).height
            for p in found.feature_view_projections
        },
        reencoded=reencoded,
        erased=asked.height - wanted.height,
        entities_hash=content_hash(asked),
        content_hash=content_hash(rows),
        known_at=known_at,
    )
    return TrainingSet(rows, manifest)


def repeat_training_set(
    manifest: Manifest, entity_df: pl.DataFrame, settings: Settings, known_at: datetime
) -> tuple[TrainingSet, list[str]]:
    """The set of a manifest once more, from the versions that it names; and in words what differs, if anything does.

    Raises:
        UserMistake: the entity rows are others.
        NotFound: a version cannot be read any more.
    """
    found = service_named(open_feature_store(settings), manifest.service)
    differences = []
    if features_of(found) != manifest.features:
        added = sorted(set(features_of(found)) - set(manifest.features))
        gone = sorted(set(manifest.features) - set(features_of(found)))
        differences.append(f"{manifest.service} has changed: added {added or 'nothing'}, gone {gone or 'nothing'}")
    if (given := content_hash(_checked(entity_df, found))) != manifest.entities_hash:
        raise UserMistake(
            f"These are not the rows that the set was made for: their hash is {given[:12]}, not "
            f"{manifest.entities_hash[:12]}. Give the original file with --entities."
        )
    again = training_set(
        entity_df,
        manifest.service,
        settings,
        known_at=known_at,
        as_served=manifest.as_served,
        allow_reencoded=manifest.allow_reencoded,
        versions=manifest.versions,
    )
    if again.manifest.content_hash != manifest.content_hash:
        for view, missing in again.manifest.without_features.items():
            before = manifest.without_features.get(view)
            if missing != before:
                differences.append(f"{view}: {missing} rows without features, {before} before")
        now, before = again.manifest.content_hash[:12], manifest.content_hash[:12]
        differences.append(f"the content is {now}, before it was {before}")
    return again, differences


def save_training_set(made: TrainingSet, out: Path, entities: Path | None = None) -> Path:
    """Write the rows as Parquet and the manifest beside them, `<out>.json`; returns the manifest's place."""
    draft = out.with_name(f".{out.name}.draft")
    made.rows.write_parquet(draft)
    draft.replace(out)
    place = out.with_name(f"{out.name}.json")
    manifest = made.manifest.model_copy(update={"entities": str(entities.resolve()) if entities else ""})
    place.write_text(json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")
    return place


def log_training_set(made: TrainingSet, out: Path, manifest: Path, settings: Settings) -> str:
    """Note a saved set in MLflow, as a dataset with the sample, the digest and the versions; returns the run's id."""
    facts = {
        "service": made.manifest.service,
        "versions": json.dumps(made.manifest.versions),
        "as_served": str(made.manifest.as_served),
        "entities_hash": made.manifest.entities_hash,
    }
    dataset = Dataset(made.manifest.service, made.rows.head(SAMPLE_ROWS), str(out.resolve()), 0)
    return note_training_set(dataset, made.manifest.content_hash, facts, manifest, settings)


def read_entities(path: Path) -> pl.DataFrame:
    """Users and moments from a .parquet or .csv file. Raises UnreadableFile."""
    try:
        if path.suffix == ".csv":
            return pl.read_csv(path, schema_overrides={USER: pl.String}, try_parse_dates=False)
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UnreadableFile(f"{path} cannot be read: {error}. Expected Parquet or CSV with {KEYS}.") from error


def read_manifest(path: Path) -> Manifest:
    """Raises UnreadableFile."""
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnreadableFile(f"{path} is no manifest of a training set: {error}") from error


def features_of(service: FeatureService) -> tuple[str, ...]:
    """view:feature, in the order in which a training set has them."""
    return tuple(f"{p.name}:{feature.name}" for p in service.feature_view_projections for feature in p.features)


def _checked(entity_df: pl.DataFrame, service: FeatureService) -> pl.DataFrame:
    """The rows that are asked for, ids as text and times in UTC. Raises UserMistake."""
    frame = entity_df if isinstance(entity_df, pl.DataFrame) else pl.from_pandas(entity_df)
    missing = [name for name in KEYS if name not in frame.columns]
    if missing:
        raise UserMistake(f"The rows have no column {' and '.join(missing)}; found {', '.join(frame.columns)}.")
    taken = sorted(set(frame.columns) & {reference.partition(":")[2] for reference in features_of(service)})
    if taken:
        raise UserMistake(f"{service.name} has features named {', '.join(taken)}: rename these columns of yours.")
    moment = frame.schema[MOMENT]
    if moment == pl.String:
        try:
            frame = frame.with_columns(pl.col(MOMENT).str.to_datetime(time_unit="us", time_zone="UTC"))
        except pl.exceptions.PolarsError as error:
            raise UserMistake(f"{MOMENT} is text, and no time: {error}. Expected 2026-03-01T12:00:00Z.") from error
    elif not isinstance(moment, pl.Datetime):
        raise UserMistake(f"{MOMENT} is {moment}, expected times. A day alone does not say what was known by then.")
    elif moment.time_zone is None:
        frame = frame.with_columns(pl.col(MOMENT).dt.replace_time_zone("UTC"))
    frame = frame.with_columns(pl.col(MOMENT).dt.convert_time_zone("UTC").cast(UTC_TIME), pl.col(USER).cast(pl.String))
    empty = [f"{name} in {frame[name].null_count()}" for name in KEYS if frame[name].null_count()]
    if empty:
        raise UserMistake(f"Rows without {', without '.join(empty)} rows: a feature is of somebody, at some time.")
    return frame


def _joined(
    store: FeatureStore, service: FeatureService, keys: pl.DataFrame, as_served: bool, versions: dict[str, int | None]
) -> pl.DataFrame:
    """`keys`, row by row, with the features in the contracts' types, all from the same versions of the tables."""
    try:
        with reading_versions(versions):
            job = store.get_historical_features(keys.to_pandas(), service, filter_by_created_timestamp=as_served)
        return job.frame()
    except UNREADABLE as error:
        shown = ", ".join(f"{name} version {version}" for name, version in versions.items())
        raise NotFound(
            f"The tables cannot be read as of {shown}: {error}. Old versions go when a table is vacuumed "
            "or a user is erased; make a new set from the newest ones."
        ) from error
