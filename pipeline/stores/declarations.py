"""
From contracts to Feast objects, so that `feature_repo/` types no column, no meaning and no path twice.

`feature_repo/` says which tables are features and for whom; what a column is stands in its contract.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta

from pipeline.stores import quick_feast  # noqa: F401  isort: skip

import polars as pl
from feast import Entity, FeatureView, Field, FileSource
from feast.data_format import DeltaFormat
from feast.types import Array, FeastType, Float32, Float64, Int64, String, UnixTimestamp

from pipeline.contracts import UTC_TIME, Column, Table
from pipeline.settings import Access, Settings

EVENT_TIME = "event_timestamp"
CREATED = "created"

_SCALARS: dict[pl.DataType, FeastType] = {
    pl.String(): String,
    pl.Int64(): Int64,
    pl.Float32(): Float32,
    pl.Float64(): Float64,
    UTC_TIME: UnixTimestamp,
}

_applied: ContextVar[Settings | None] = ContextVar("settings of the apply that is under way", default=None)


@contextmanager
def declared_with(settings: Settings) -> Iterator[None]:
    """Inside, declarations are made for these settings; outside, for those of the environment."""
    token = _applied.set(settings)
    try:
        yield
    finally:
        _applied.reset(token)


def declared_access() -> Access:
    """Who may do what, by the settings."""
    return (_applied.get() or Settings.load()).access


def delta_source(table: Table) -> FileSource:
    """The lake's table as Feast's batch source, named as the table."""
    lake = (_applied.get() or Settings.load()).lake_url
    return FileSource(
        name=table.name,
        path=f"{lake.rstrip('/')}/{table.name}",
        file_format=DeltaFormat(),
        timestamp_field=EVENT_TIME,
        created_timestamp_column=CREATED,
        description=f"Delta table, {table.grain}.",
        owner=table.owner,
        tags={"contract": table.version},
    )


def view_of(
    table: Table,
    entity: Entity,
    source: FileSource,
    description: str,
    ttl: timedelta | None = None,
    written_by: str = "",
    online: bool = True,
    says: Mapping[str, str] | None = None,
) -> FeatureView:
    """The view of a whole table. Without `ttl` a row holds until the next one, however long that takes.

    Its tags say how fresh it is kept (where that is promised), what a missing value means, which Dag writes it, and,
    for a vector, where its space is named; and what it `says` beside that.

    Args:
        online: False for a view that is only joined to training sets; nothing of it can be pushed.
    """
    missing = "; ".join(f"{column.name}: {column.when_null}" for column in table.columns if not column.required)
    tags = {"freshness": table.freshness} if table.freshness else {}
    tags |= {
        "missing": "the user or item was never seen" + (f"; {missing}" if missing else ""),
        "grain": table.grain,
        "contract": table.version,
    }
    if written_by:
        tags["dag"] = written_by
    if "space_id" in table.names:
        tags["space"] = "space_id; compare vectors only when equal"
    return FeatureView(
        name=table.name,
        description=description,
        owner=table.owner,
        entities=[entity],
        ttl=ttl or timedelta(0),
        schema=[field_of(column) for column in table.columns if column.name not in (EVENT_TIME, CREATED)],
        source=source,
        online=online,
        tags=tags | dict(says or {}),
    )


def field_of(column: Column) -> Field:
    """A column as a feature. A time is served to the second, which is what Feast's encoding keeps."""
    return Field(
        name=column.name,
        dtype=feast_type(column.dtype),
        description=column.meaning,
        tags={} if column.required else {"missing": column.when_null},
    )


def feast_type(dtype: pl.DataType) -> FeastType:
    """Feast's type of a contract's type; raises KeyError for one that is served by no view yet."""
    if isinstance(dtype, pl.List):
        return Array(_SCALARS[dtype.inner])
    return _SCALARS[dtype]
