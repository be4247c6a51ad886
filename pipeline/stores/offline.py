"""
Feast's offline store over the lake: our point-in-time join of Delta snapshots, and Feast's own other reads of them.

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
import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from feast import FeatureView, RepoConfig
from feast.data_source import DataSource
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
from feast.infra.offline_stores.ibis import (
    pull_all_from_table_or_query_ibis,
    pull_latest_from_table_or_query_ibis,
)
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from pydantic import Field

from pipeline.contracts import TABLES, UTC_TIME, Table, withdrawn_rows_of
from pipeline.errors import UserMistake
from pipeline.stores.point_in_time import JoinedView, Snapshot, joined_at

UNREADABLE = (OSError, DeltaError, duckdb.Error, pl.exceptions.PolarsError)
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
        if not isinstance(entity_df, pd.DataFrame):
            raise UserMistake("The rows to join are given as a frame; a query over the lake is not one.")
        moment = infer_event_timestamp_from_entity_df(dict(entity_df.dtypes))
        asked = pl.from_pandas(entity_df.assign(**{moment: pd.to_datetime(entity_df[moment], utc=True)}))
        return PointInTimeJob(
            asked.with_columns(pl.col(moment).cast(UTC_TIME)),
            moment,
            [
                _joined_view(config, view, feature_refs, full_feature_names, filter_by_created_timestamp)
                for view in feature_views
            ],
            as_known=filter_by_created_timestamp,
            on_demand=OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            feature_refs=feature_refs,
            full_feature_names=full_feature_names,
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


class PointInTimeJob(RetrievalJob):
    """A point-in-time join that was asked for. Its versions are settled; rows are read when they are wanted."""

    def __init__(
        self,
        asked: pl.DataFrame,
        moment: str,
        views: list[JoinedView],
        as_known: bool,
        on_demand: list[OnDemandFeatureView],
        feature_refs: list[str],
        full_feature_names: bool,
    ):
        super().__init__()
        self._asked, self._moment, self._views, self._as_known = asked, moment, views, as_known
        self._on_demand, self._feature_refs, self._full_feature_names = on_demand, feature_refs, full_feature_names

    def frame(self) -> pl.DataFrame:
        """The rows that were asked for, in their order, with the features in the contracts' types."""
        return joined_at(self._asked, self._moment, self._views, self._as_known)

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self.frame().to_arrow(compat_level=pl.CompatLevel.oldest())

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal().to_pandas()

    @property
    def full_feature_names(self) -> bool:
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return self._on_demand

    @property
    def metadata(self) -> RetrievalMetadata:
        moments = self._asked[self._moment]
        keys = [name for name in self._asked.columns if name != self._moment]
        return RetrievalMetadata(self._feature_refs, keys, moments.min(), moments.max())

    def persist(self, *_args: Any, **_options: Any) -> NoReturn:
        _refuse_to_write()


def _joined_view(
    config: RepoConfig, view: FeatureView, feature_refs: list[str], full_names: bool, as_known: bool
) -> JoinedView:
    asked_as = view.projection.name_to_use()
    features = [ref.partition(":")[2] for ref in feature_refs if ref.partition(":")[0] == asked_as]
    prefix = f"{view.projection.name_alias or view.name}__" if full_names else ""
    keys = view.projection.join_key_map or {column.name: column.name for column in view.entity_columns}
    ((key, asked_by),) = keys.items()
    return JoinedView(
        snapshot=_snapshot(config, view.batch_source, as_known),
        key=key,
        asked_by=asked_by,
        features={name: f"{prefix}{name}" for name in features},
        ttl=view.ttl or None,
    )


def _snapshot(config: RepoConfig, source: DataSource, as_known: bool) -> Snapshot:
    """A table's pinned or newest commit; as known, with what was withdrawn from it."""
    contract = next(table for table in TABLES if table.name == source.name)
    standing = _commit(config, contract, source.path)
    if not as_known or not contract.keeps_versions:
        return standing
    beside = withdrawn_rows_of(contract)
    return standing.beside(_commit(config, beside, f"{source.path.removesuffix(contract.name)}{beside.name}"))


def _commit(config: RepoConfig, table: Table, path: str) -> Snapshot:
    """The pinned or newest commit of a table; before its first commit, nothing."""
    options, pinned = config.offline_store.storage_options, _pinned.get() or {}
    if DeltaTable.is_deltatable(path, storage_options=options) and pinned.get(table.name, 0) is not None:
        return Snapshot.of(table, path, pinned.get(table.name), options)
    return Snapshot(table)


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
