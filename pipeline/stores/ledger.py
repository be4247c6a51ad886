"""
The ledger: what happened to every partition and every model, in a small SQL database.

It is written in the same step as the commit that it describes, and can be rebuilt from the tables.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy import JSON, DateTime, Engine, String, create_engine, delete, event, func, inspect, make_url, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.types import TypeDecorator

from pipeline.errors import EngineFailure
from pipeline.stores.upserts import upsert

MIGRATIONS = Path(__file__).parent / "ledger_migrations"
NOTE = "ledger"
"""The field of a Delta commit that carries the ledger's lines."""

PartitionState = Literal["published", "empty", "failed", "skipped"]


class UtcDateTime(TypeDecorator):
    """A time with its zone, also on SQLite, which forgets zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: object) -> datetime | None:
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: object) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Row(DeclarativeBase):
    """A table of the ledger."""


class PartitionRow(Row):
    __tablename__ = "partitions"

    table_name: Mapped[str] = mapped_column(String(64), primary_key=True)
    partition: Mapped[str] = mapped_column(String(32), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    counts: Mapped[dict] = mapped_column(JSON, default=dict)
    details: Mapped[dict] = mapped_column(JSON, default=dict)
    version: Mapped[int | None]
    run_key: Mapped[str] = mapped_column(String(128))
    written_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PromotionRow(Row):
    __tablename__ = "promotions"

    model: Mapped[str] = mapped_column(String(64), primary_key=True)
    run_key: Mapped[str] = mapped_column(String(128), primary_key=True)
    decision: Mapped[str] = mapped_column(String(16))
    from_version: Mapped[int | None]
    to_version: Mapped[int]
    reasons: Mapped[list] = mapped_column(JSON, default=list)
    decided_by: Mapped[str] = mapped_column(String(128))
    decided_at: Mapped[datetime] = mapped_column(UtcDateTime)


class TombstoneRow(Row):
    __tablename__ = "tombstones"

    keyed_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_id: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(String(1024))
    erased_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ReceiptRow(Row):
    __tablename__ = "erasure_receipts"

    receipt: Mapped[str] = mapped_column(String(32), primary_key=True)
    keyed_hash: Mapped[str] = mapped_column(String(64))
    facts: Mapped[dict] = mapped_column(JSON, default=dict)
    written_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Record(BaseModel):
    """A line of the ledger, as it is read and written."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class PartitionRecord(Record):
    """What became of one partition of one table, the last time a step wrote it."""

    table_name: str
    partition: str
    state: PartitionState
    counts: dict[str, int] = {}
    details: dict = {}
    """Warnings, failed checks, refusal reasons: whatever a person needs to understand the state."""
    version: int | None = None
    run_key: str
    written_at: datetime


class Promotion(Record):
    """One decision of the gate, or of a person, about one model version."""

    model: str
    run_key: str
    decision: Literal["promoted", "held", "rolled_back"]
    from_version: int | None
    to_version: int
    reasons: list[str]
    decided_by: str
    decided_at: datetime


class Tombstone(Record):
    """One erased user: a keyed hash, never the id."""

    keyed_hash: str
    key_id: str
    """Names the key that the hash was made with."""
    reason: str
    erased_at: datetime


class ReceiptRecord(Record):
    """What an erasure did, as its receipt says it."""

    receipt: str
    keyed_hash: str
    facts: dict
    written_at: datetime


def note_of(records: Sequence[PartitionRecord]) -> dict[str, str]:
    """The ledger's lines of a commit, as a note on that commit: with it the ledger can be rebuilt from the tables.

    The version is left out; it is the commit's own, and not known before it.
    """
    lines = {
        record.partition: record.model_dump(mode="json", exclude={"table_name", "partition", "version"})
        for record in records
    }
    return {NOTE: json.dumps(lines, sort_keys=True)}


def records_of(table_name: str, version: int, note: Mapping[str, str]) -> dict[str, PartitionRecord]:
    """The inverse of `note_of`, by partition; empty for a commit without such a note."""
    return {
        partition: PartitionRecord(table_name=table_name, partition=partition, version=version, **facts)
        for partition, facts in json.loads(note.get(NOTE, "{}")).items()
    }


class Ledger:
    """Reads and writes the ledger; `migrate()` once at set-up brings its tables to the newest schema."""

    def __init__(self, url: str):
        self.url = url
        self.engine = _connect(url)

    def migrate(self) -> None:
        """Create or upgrade the tables (Alembic). Safe to repeat."""
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with self._reachable(), self.engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def revisions(self) -> tuple[str | None, str]:
        """The schema that is found (None: no ledger yet) and the newest that this code knows. Creates nothing."""
        from alembic.runtime.migration import MigrationContext
        from alembic.script import ScriptDirectory

        newest = ScriptDirectory(str(MIGRATIONS)).get_current_head()
        url = self.engine.url
        if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).is_file():
            return None, newest
        with self._reachable(), self.engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision(), newest

    def record_partitions(self, records: Sequence[PartitionRecord]) -> None:
        """Write the newest state of these partitions, all or none; of two lines about one, the later one."""
        by_key = {(record.table_name, record.partition): record.model_dump() for record in records}
        if by_key:
            with self._reachable(), Session(self.engine) as session, session.begin():
                session.execute(upsert(PartitionRow, self.engine), list(by_key.values()))

    def record_partition(self, record: PartitionRecord) -> None:
        self.record_partitions([record])

    def partitions(self, table_name: str | None = None, within: tuple[str, str] | None = None) -> list[PartitionRecord]:
        """The state of every partition, by table and day; of those `within` two keys, both included."""
        query = select(PartitionRow).order_by(PartitionRow.table_name, PartitionRow.partition)
        if table_name is not None:
            query = query.where(PartitionRow.table_name == table_name)
        if within is not None:
            query = query.where(PartitionRow.partition.between(*within))
        return self._read(query, PartitionRecord)

    def partition(self, table_name: str, partition: str) -> PartitionRecord | None:
        query = select(PartitionRow).filter_by(table_name=table_name, partition=partition)
        return next(iter(self._read(query, PartitionRecord)), None)

    def forget_partitions(self, table_name: str) -> None:
        """Drop a table's lines, before they are rebuilt from the table itself."""
        with self._reachable(), Session(self.engine) as session, session.begin():
            session.execute(delete(PartitionRow).where(PartitionRow.table_name == table_name))

    def record_promotion(self, promotion: Promotion) -> None:
        """Write a decision; the same run key decides once, a repetition replaces its line."""
        self._merge([PromotionRow(**promotion.model_dump())])

    def promotions(self, model: str | None = None) -> list[Promotion]:
        """Every decision, oldest first."""
        query = select(PromotionRow).order_by(PromotionRow.decided_at, PromotionRow.model)
        if model is not None:
            query = query.where(PromotionRow.model == model)
        return self._read(query, Promotion)

    def record_tombstones(self, tombstones: Sequence[Tombstone]) -> None:
        self._merge([TombstoneRow(**tombstone.model_dump()) for tombstone in tombstones])

    def tombstones(self) -> list[Tombstone]:
        """Every erased user, oldest first; none where the ledger was never made."""
        query = select(TombstoneRow).order_by(TombstoneRow.erased_at, TombstoneRow.keyed_hash)
        return self._read(query, Tombstone) if self._holds(TombstoneRow) else []

    def tombstone_state(self) -> tuple[int, datetime | None]:
        """Changes whenever a tombstone is added: for asking often."""
        if not self._holds(TombstoneRow):
            return 0, None
        with self._reachable(), Session(self.engine) as session:
            counted = session.execute(select(func.count(), func.max(TombstoneRow.erased_at))).one()
            return counted[0], counted[1]

    def record_receipt(self, receipt: ReceiptRecord) -> None:
        self._merge([ReceiptRow(**receipt.model_dump())])

    def receipt(self, receipt: str) -> ReceiptRecord | None:
        query = select(ReceiptRow).filter_by(receipt=receipt)
        return next(iter(self._read(query, ReceiptRecord)), None) if self._holds(ReceiptRow) else None

    def _holds(self, row: type[Row]) -> bool:
        """Whether the table is there. Looking makes no ledger where there is none."""
        url = self.engine.url
        if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).is_file():
            return False
        with self._reachable():
            return inspect(self.engine).has_table(row.__tablename__)

    def _merge(self, rows: Sequence[Row]) -> None:
        with self._reachable(), Session(self.engine) as session, session.begin():
            for row in rows:
                session.merge(row)

    def _read(self, query, record: type[Record]) -> list:
        with self._reachable(), Session(self.engine) as session:
            return [record.model_validate(row) for row in session.scalars(query)]

    @contextmanager
    def _reachable(self):
        try:
            yield
        except OperationalError as error:
            place = make_url(self.url).render_as_string(hide_password=True)
            raise EngineFailure(
                f"The ledger at {place} did not answer: {error.orig}. Nothing was recorded. "
                "Where its tables are missing, run `interest doctor --repair`; then run the step again."
            ) from error


def _connect(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, pool_pre_ping=True)
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def use_wal(connection, _record) -> None:
        connection.execute("PRAGMA journal_mode=WAL")  # Readers go on while a step writes, and several write.

    return engine
