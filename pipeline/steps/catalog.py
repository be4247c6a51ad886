"""
Builds the feature catalogue: a small static site and one JSON file, from the definitions and the data.

Reads Feast's registry, the lake and the clocks of the online store; writes `<home>/catalog/`, file by file in one move
each. Statistics and examples are of the newest row of each entity, of at most `SAMPLE` entities chosen by the hash of
the key, so that a catalogue of many users costs no more memory than one of few.
"""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict

from pipeline.catalog.facts import Catalog, Example, Feature, Freshness, Lineage, Service, View, state_of, worst
from pipeline.catalog.page import render_catalog
from pipeline.catalog.reading import Server, reading_of
from pipeline.catalog.statistics import measure, shown
from pipeline.contracts import TABLES, Table
from pipeline.errors import BadSetting
from pipeline.partitions import Day
from pipeline.report.migration import short_id
from pipeline.settings import Settings
from pipeline.stores.served import ServedView, served_views
from pipeline.stores.tables import Lake, newest_versions

SAMPLE = 20_000
EXAMPLES = 3


class BuiltCatalog(BaseModel):
    """Where the catalogue is, and what it says of freshness."""

    model_config = ConfigDict(frozen=True)

    folder: str
    pages: tuple[str, ...]
    json_file: str
    views: int
    features: int
    services: int
    stale: tuple[str, ...]


def build_catalog(settings: Settings, known_at: datetime, out: Path | None = None) -> BuiltCatalog:
    """Write the catalogue; the same definitions, data and `known_at` give the same bytes.

    Raises:
        NotFound: no definition is applied.
        BadSetting: `out` is a file.
    """
    folder = out or settings.place("catalog")
    if folder.exists() and not folder.is_dir():
        raise BadSetting(f"--out {folder} is a file. Name a folder; it is made where it is missing.")
    catalog = collect_catalog(settings, known_at)
    folder.mkdir(parents=True, exist_ok=True)
    files = render_catalog(catalog)
    index = files.pop("index.html")
    schema = json.dumps(Catalog.model_json_schema(), indent=1, sort_keys=True)
    files |= {"catalog.schema.json": f"{schema}\n", "catalog.json": f"{catalog.model_dump_json(indent=1)}\n"}
    for name, text in {**files, "index.html": index}.items():
        draft = folder / f".{name}.{os.getpid()}"
        draft.write_text(text, encoding="utf-8")
        draft.replace(folder / name)
    return BuiltCatalog(
        folder=str(folder),
        pages=tuple(sorted(name for name in (*files, "index.html") if name.endswith(".html"))),
        json_file=str(folder / "catalog.json"),
        views=len(catalog.views),
        features=catalog.num_features,
        services=len(catalog.services),
        stale=catalog.stale,
    )


def collect_catalog(settings: Settings, known_at: datetime) -> Catalog:
    """Every fact of the catalogue."""
    # Imported here: Feast takes seconds to load.
    from pipeline.stores.definitions import declared_services, declared_views

    declared, services = declared_views(settings), declared_services(settings)
    lake, tables = Lake.of(settings), {table.name: table for table in TABLES}
    served = {found.view: found for found in served_views(settings, [view.name for view in declared])}
    server = Server(f"http://{settings.airflow.host}:{settings.ports.feast}", settings.access.check != "off")
    views = []
    for view in declared:
        table = tables[view.name]
        version = lake.version(table)
        entities, rows = _newest_rows(lake, table, view.key, version)
        holders = {
            feature.name: tuple(s.name for s in services if (view.name, feature.name) in s.features)
            for feature in view.features
        }
        names = rows[view.key].to_list()
        people = [short_id(name) if view.is_personal else shown(name) for name in names[:EXAMPLES]]
        views.append(
            View(
                name=view.name,
                description=view.description,
                owner=view.owner,
                entity=view.entity,
                key=view.key,
                grain=view.tags.get("grain", ""),
                missing=view.tags.get("missing", ""),
                time_to_live_days=view.time_to_live.total_seconds() / 86400 if view.time_to_live else None,
                entities=entities,
                measured=rows.height,
                freshness=_freshness(view.tags.get("freshness", ""), served[view.name], rows, known_at),
                lineage=_lineage(table, view.tags.get("dag", ""), version, rows),
                features=tuple(
                    Feature(
                        name=feature.name,
                        type=feature.type,
                        description=feature.description,
                        missing=feature.tags.get("missing", ""),
                        statistics=measure(rows[feature.name]),
                        examples=tuple(
                            Example(entity=who, value=shown(value))
                            for who, value in zip(people, rows[feature.name].head(EXAMPLES).to_list(), strict=True)
                        ),
                        consumers=holders[feature.name],
                        reading=reading_of(view.name, feature.name, view.key, holders[feature.name], server),
                    )
                    for feature in view.features
                ),
            )
        )
    states = {view.name: view for view in views}
    return Catalog(
        known_at=known_at,
        views=tuple(views),
        services=tuple(
            Service(
                name=service.name,
                description=service.description,
                owner=service.owner,
                consumer=service.tags.get("consumer", ""),
                promise=service.tags.get("freshness", ""),
                state=worst([states[name].freshness.state for name in dict(service.features)]),
                features=tuple(f"{view}:{feature}" for view, feature in service.features),
            )
            for service in services
        ),
    )


def catalogue_made_before(settings: Settings, moment: datetime) -> list[Path]:
    """The files of the catalogue at home, the JSON file last, where it was made before `moment`; else none."""
    folder = settings.place("catalog")
    try:
        made_at = Catalog.model_validate_json((folder / "catalog.json").read_bytes()).known_at
        if made_at > moment:
            return []
    except (OSError, ValueError):
        pass  # a catalogue that does not say when it was made is an old one
    files = [file for file in folder.glob("*") if file.is_file()]
    return sorted(files, key=lambda file: (file.name == "catalog.json", file.name))


def _newest_rows(lake: Lake, table: Table, key: str, version: int | None) -> tuple[int, pl.DataFrame]:
    """How many entities a table has, and the newest row of each of a sample, in the order of the keys' hashes."""
    newest = lake.scan(table, version=version).group_by(key).agg(pl.col("event_timestamp").max()).collect()
    moments = newest.with_columns(place=pl.col(key).hash(7)).sort("place", key).head(SAMPLE)
    if moments.is_empty():
        return 0, table.empty()
    days = (Day.of(moments["event_timestamp"].min()), Day.of(moments["event_timestamp"].max())) if table.daily else ()
    found = lake.scan(table, *days, version=version).join(moments.lazy(), on=[key, "event_timestamp"], how="inner")
    ordered = newest_versions(table, found).sort("place", key, "created")
    return newest.height, ordered.unique(key, keep="last", maintain_order=True).collect()


def _freshness(promise: str, served: ServedView, rows: pl.DataFrame, known_at: datetime) -> Freshness:
    """Judged as a look-up judges: by the newest row of the view that is served."""
    newest = served.newest or rows["event_timestamp"].max()
    age = known_at - newest if newest is not None else None
    return Freshness(
        promise=promise,
        state=state_of(promise, age),
        newest=newest,
        age_seconds=age.total_seconds() if age is not None else None,
        is_served=served.newest is not None,
    )


def _lineage(table: Table, dag: str, version: int | None, rows: pl.DataFrame) -> Lineage:
    """Whose models and spaces are in the newest rows."""

    def distinct(name: str) -> tuple:
        return tuple(rows[name].unique().sort().to_list()) if name in rows.columns else ()

    return Lineage(
        dag=dag,
        table=table.name,
        table_version=version,
        contract=table.version,
        model_versions=distinct("model_version"),
        spaces=distinct("space_id"),
        model_cutoff=max(distinct("model_cutoff"), default=None),
    )
