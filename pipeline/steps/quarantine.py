"""Reads what was refused of a day: each reason, how often, and where to look."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from pipeline.contracts import QUARANTINED_EVENTS
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.stores.tables import Lake


class Example(BaseModel):
    """One refused row: where it stands, and the shortened value that was refused."""

    model_config = ConfigDict(frozen=True)

    source_file: str
    source_row: int
    detail: str | None


class Refusal(BaseModel):
    """One reason of a day, the most frequent first."""

    model_config = ConfigDict(frozen=True)

    reason: str
    rows: int
    examples: list[Example]


class Refusals(BaseModel):
    """What stands in quarantine for one day."""

    model_config = ConfigDict(frozen=True)

    day: str
    reasons: list[Refusal]


def read_refusals(day: Day, settings: Settings, examples: int) -> Refusals:
    """Every reason for which rows of `day` stand in quarantine, with at most `examples` rows each."""
    rows = Lake.of(settings).read(QUARANTINED_EVENTS, day)
    found = []
    for (reason,), group in rows.group_by(["reason"], maintain_order=True):
        shown = group.sort("source_file", "source_row").head(examples)
        found.append(
            Refusal(
                reason=reason,
                rows=group.height,
                examples=[Example(**row) for row in shown.select(list(Example.model_fields)).iter_rows(named=True)],
            )
        )
    return Refusals(day=day.key, reasons=sorted(found, key=lambda refusal: (-refusal.rows, refusal.reason)))
