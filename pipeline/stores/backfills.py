"""The ledger's lines about backfills: what was asked for, which days it holds, and which of them are done."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import Field
from sqlalchemy import JSON, String, inspect, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Mapped, Session, mapped_column

from pipeline.errors import EngineFailure
from pipeline.stores.ledger import Ledger, Record, Row, UtcDateTime


class BackfillRow(Row):
    __tablename__ = "backfills"

    plan_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    first: Mapped[str] = mapped_column(String(10))
    last: Mapped[str] = mapped_column(String(10))
    tables: Mapped[list] = mapped_column(JSON, default=list)
    reason: Mapped[str] = mapped_column(String(1024))
    state: Mapped[str] = mapped_column(String(16))
    days: Mapped[list] = mapped_column(JSON, default=list)
    done: Mapped[list] = mapped_column(JSON, default=list)
    facts: Mapped[dict] = mapped_column(JSON, default=dict)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class BackfillRecord(Record):
    """One backfill. It is resumed while it is `running`, whatever became of the process that ran it."""

    plan_id: str
    first: str
    last: str
    tables: list[str]
    reason: str
    state: Literal["running", "done"]
    days: list[str]
    done: list[str] = Field(default_factory=list)
    facts: dict = Field(default_factory=dict)
    """`canary`: how the first partition differed; `seconds`: by table, what each partition took; `accepted`."""
    started_at: datetime
    finished_at: datetime | None = None

    @property
    def left(self) -> list[str]:
        return [day for day in self.days if day not in self.done]

    def asks(self, first: str, last: str, tables: Sequence[str], reason: str) -> bool:
        """Whether it is what somebody asks for now."""
        return (self.first, self.last, self.tables, self.reason) == (first, last, list(tables), reason)


class Backfills:
    """Reads and writes these lines. Where the ledger was never brought up to date, there are none."""

    def __init__(self, ledger: Ledger):
        self.ledger = ledger

    def write(self, record: BackfillRecord) -> BackfillRecord:
        try:
            with Session(self.ledger.engine) as session, session.begin():
                session.merge(BackfillRow(**record.model_dump()))
        except OperationalError as error:
            raise EngineFailure(
                f"The ledger did not take the backfill {record.plan_id}: {error.orig}. Nothing was started. "
                "Where its tables are missing, run `interest doctor --repair`; then run the backfill again."
            ) from error
        return record

    def all(self) -> list[BackfillRecord]:
        """Every backfill, oldest first."""
        if self.ledger.revisions()[0] is None or not inspect(self.ledger.engine).has_table(BackfillRow.__tablename__):
            return []
        with Session(self.ledger.engine) as session:
            rows = session.scalars(select(BackfillRow).order_by(BackfillRow.started_at, BackfillRow.plan_id))
            return [BackfillRecord.model_validate(row) for row in rows]

    def find(self, plan_id: str) -> BackfillRecord | None:
        return next((record for record in self.all() if record.plan_id == plan_id), None)

    def seconds(self) -> dict[str, list[float]]:
        """By table, what a partition took in earlier backfills."""
        found: dict[str, list[float]] = {}
        for record in self.all():
            for table, seconds in record.facts.get("seconds", {}).items():
                found.setdefault(table, []).extend(seconds)
        return found
