"""
The hash of a home's state: what is true in it, whenever, in which order and in how many attempts it became so.

Offline tables, the registry and what is served count. When a row was written, how a file or an MLflow run is called,
and which number a version got do not. Two homes that were fed the same logs have the same hash, whatever crashed on
the way.
"""

from __future__ import annotations

import hashlib
import json

import polars as pl
from pydantic import BaseModel, ConfigDict

from pipeline.contracts import LOOKUP_LOG, LOOKUP_PARITY, NEWEST_DAYS, ONLINE_PARITY, TABLES, Table
from pipeline.contracts.content import content_hash
from pipeline.settings import Settings
from pipeline.steps.online_parity import is_applied
from pipeline.stores.model_versions import MODELS
from pipeline.stores.registered import Registered, registered_versions
from pipeline.stores.tables import Lake, newest_versions

OBSERVATIONS = (ONLINE_PARITY.name, LOOKUP_LOG.name, LOOKUP_PARITY.name)
"""Tables that say what somebody saw at some time; they are no part of the state that was seen."""
INDEXES = (NEWEST_DAYS.name,)
"""Made from other tables, sooner or later: they say nothing of their own."""
CLOCKS = {"created", "known_at", "ingested_at"}
FILES = {"source_file", "source_row"}


class StateHash(BaseModel):
    """64 hexadecimal digits a part, and of all of them together."""

    model_config = ConfigDict(frozen=True)

    total: str
    tables: dict[str, str]
    registry: dict[str, str]
    online: dict[str, str]


def state_hash(settings: Settings) -> StateHash:
    """Hash what a home holds, a day at a time. Reads only.

    Raises:
        EngineFailure: a store did not answer.
        UnsafeModel: the files of a registered version are missing or have changed.
    """
    registered = {model: registered_versions(settings, [model]) for model in MODELS}
    run_keys = _run_keys(registered)
    lake = Lake.of(settings)
    counted = [table for table in TABLES if table.name not in (*OBSERVATIONS, *INDEXES)]
    parts = {
        "tables": {table.name: _of_table(lake, table, run_keys) for table in counted if lake.exists(table)},
        "registry": {model: _of_model(settings, entries) for model, entries in registered.items() if entries},
        "online": _of_online(settings, run_keys),
    }
    return StateHash(total=hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest(), **parts)


RunKeys = dict[str, dict[int, str]]


def _run_keys(registered: dict[str, list[Registered]]) -> RunKeys:
    """By the table that names versions of a model: the run key of each number."""
    told = {"long_term_interest": "interest_evolution", "recommendations": "collaborative_filter"}
    return {
        table: {entry.version.number: entry.version.run_key for entry in registered[model]}
        for table, model in told.items()
    }


def _of_table(lake: Lake, table: Table, run_keys: RunKeys) -> str:
    """Of each row the newest version, day after day. A day without rows is as if it were not there."""
    digest = hashlib.sha256()
    for day in lake.days(table) if table.daily else [None]:
        rows = lake.scan(table, day, day)
        rows = newest_versions(table, rows) if table.keeps_versions else rows
        digest.update(f"{day} {content_hash(_content(table, rows.collect(), run_keys))}\n".encode())
    return digest.hexdigest()


def _content(table: Table, rows: pl.DataFrame, run_keys: RunKeys) -> pl.DataFrame:
    """What the rows say, in an order that depends on nothing else."""
    named = run_keys.get(table.name)
    if named is not None:
        said = pl.col("model_version").map_elements(lambda number: named.get(number, str(number)), pl.String)
        rows = rows.with_columns(said)
    names = [name for name in table.names if name in rows.columns and name not in CLOCKS | FILES]
    keys = [name for name in table.key if name in names]
    plain = [name for name in names if name not in keys and not isinstance(rows.schema[name], pl.List)]
    return rows.select(names).sort([*keys, *plain], nulls_last=True)


def _of_model(settings: Settings, entries: list[Registered]) -> str:
    """Each run key once: what was decided about it, which alias it carries, and every byte of its weights."""
    from pipeline.stores.model_files import MANIFEST
    from pipeline.stores.registry import Registry

    registry, facts = Registry(settings), []
    for entry in entries:
        version = entry.version
        files = json.loads((registry.fetch(version) / MANIFEST).read_text(encoding="utf-8"))
        weights = {name: digest for name, digest in files.items() if name.endswith(".safetensors")}
        moments = [version.model_cutoff.isoformat(), version.trained_until.isoformat()]
        facts.append([version.run_key, version.status, *moments, version.space_id, entry.aliases, weights])
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _of_online(settings: Settings, run_keys: RunKeys) -> dict[str, str]:
    """By applied view, what is served of every entity. Views that serve nothing are left out."""
    # Imported here: Feast takes seconds to load.
    from pipeline.stores.feature_store import keys_of_views
    from pipeline.stores.served_rows import served_keys, served_rows

    tables = {table.name: table for table in TABLES}
    served = {}
    for view in keys_of_views(settings) if is_applied(settings) else ():
        if keys := sorted(served_keys(settings, view)):
            rows = served_rows(settings, tables[view], keys)
            served[view] = content_hash(_content(tables[view], rows, run_keys))
    return served
