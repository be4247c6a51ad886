"""
Feast's offline store over the lake: DuckDB's point-in-time join, reading whole Delta snapshots.

`get_historical_features(..., filter_by_created_timestamp=True)` answers as the platform knew it at each row's time;
without it a row that was corrected later counts as if it had always been right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Literal, NoReturn

from pipeline.stores import quick_feast  # noqa: F401  isort: skip

import duckdb
import ibis
import pandas as pd
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from feast import FeatureView, RepoConfig
from feast.data_source import DataSource
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
from feast.infra.offline_stores.ibis import (
    get_historical_features_ibis,
    pull_all_from_table_or_query_ibis,
    pull_latest_from_table_or_query_ibis,
)
from feast.infra.offline_stores.offline_store import RetrievalJob
from feast.infra.registry.base_registry import BaseRegistry
from pydantic import Field

from pipeline.contracts import TABLES
from pipeline.errors import UserMistake

UNREADABLE = (OSError, DeltaError, duckdb.Error)
"""What a read raises when a version's log or files are gone."""

_pinned: ContextVar[Mapping[str, int | None] | None] = ContextVar("table versions of this read", default=None)


@contextmanager
def reading_versions(versions: Mapping[str, int | None]) -> Iterator[None]:
    """Inside, Feast reads these tables at these versions (None: before the first commit), others at their newest."""
    token = _pinned.set(versions)
    try:
        yield
    finally:
        _pinned.reset(token)


class DeltaOfflineStoreConfig(DuckDBOfflineStoreConfig):
    type: Literal["pipeline.stores.offline.DeltaOfflineStore"] = "pipeline.stores.offline.DeltaOfflineStore"

    storage_options: dict[str, str] = Field(default_factory=dict)
    """Passed to the Delta reader, for a lake in an object store."""


class DeltaOfflineStore(DuckDBOfflineStore):
    """Reads only. The lake is written by the steps, a whole partition in one commit."""

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
    ) -> RetrievalJob:
        return get_historical_features_ibis(
            config=config,
            feature_views=feature_views,
            feature_refs=feature_refs,
            entity_df=entity_df,
            registry=registry,
            project=project,
            full_feature_names=full_feature_names,
            data_source_reader=_reader(config),
            data_source_writer=_refuse_to_write,
            filter_by_created_timestamp=filter_by_created_timestamp,
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        return pull_latest_from_table_or_query_ibis(
            config=config,
            data_source=data_source,
            join_key_columns=join_key_columns,
            feature_name_columns=feature_name_columns,
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            start_date=start_date,
            end_date=end_date,
            data_source_reader=_reader(config),
            data_source_writer=_refuse_to_write,
        )

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        return pull_all_from_table_or_query_ibis(
            config=config,
            data_source=data_source,
            join_key_columns=join_key_columns,
            feature_name_columns=feature_name_columns,
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            start_date=start_date,
            end_date=end_date,
            data_source_reader=_reader(config),
            data_source_writer=_refuse_to_write,
        )

    @staticmethod
    def offline_write_batch(*_args: Any, **_options: Any) -> NoReturn:
        _refuse_to_write()


def _reader(config: RepoConfig):
    def read_snapshot(source: DataSource, _repo_path: str) -> ibis.Table:
        """A table's pinned or newest commit as one snapshot; before its first commit, the contract's empty table."""
        options, pinned = config.offline_store.storage_options, _pinned.get() or {}
        is_there = DeltaTable.is_deltatable(source.path, storage_options=options)
        if is_there and pinned.get(source.name, 0) is not None:
            table = DeltaTable(source.path, version=pinned.get(source.name), storage_options=options)
            return ibis.memtable(table.to_pyarrow_dataset())
        contract = next(table for table in TABLES if table.name == source.name)
        return ibis.memtable(contract.empty().to_arrow())

    return read_snapshot


def _refuse_to_write(*_args: Any, **_options: Any) -> NoReturn:
    raise UserMistake(
        "Feast may not write the lake: nothing was written. Tables are written by the steps, a whole partition at once."
    )
