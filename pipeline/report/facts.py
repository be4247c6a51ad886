"""Every fact that the report shows, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pipeline.partitions import Day
from pipeline.report.migration import Mix, Mover


@dataclass(frozen=True)
class DayQuality:
    """What became of one day of the log. rows_in = published + quarantined + duplicates + erased + late."""

    day: Day
    state: str
    rows_in: int
    published: int
    quarantined: int
    duplicates: int
    warnings: tuple[str, ...] = ()
    erased: int = 0
    late: int = 0
    """Rows that came after the lookback; they wait in `late_events`."""

    @property
    def balances(self) -> bool:
        return self.rows_in == self.published + self.quarantined + self.duplicates + self.erased + self.late


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ScoreRow:
    """One recommender in the metric table; `role` is challenger, champion, part or baseline."""

    name: str
    role: str
    scores: Mapping[str, Interval]


@dataclass(frozen=True)
class RuleRow:
    """One rule of the gate; `change`, `low` and `high` are shares of the opponent's value, NaN where nobody has one."""

    challenger: str
    rule: str
    opponent: str
    users: int
    change: float
    low: float
    high: float
    bound: str
    verdict: str
    """passed, failed or not enforced"""


@dataclass(frozen=True)
class ModelReport:
    """One evaluation of one model: the table, the placebo, the decision."""

    model: str
    run_key: str
    metrics: tuple[str, ...] = ()
    rows: tuple[ScoreRow, ...] = ()
    placebo: tuple[ScoreRow, ...] = ()
    placebo_metric: str = ""
    users: int | None = None
    period: str = ""
    decision: str = ""
    reasons: tuple[str, ...] = ()
    version: int | None = None
    decided_at: datetime | None = None
    placebo_finding: str = ""
    rules: tuple[RuleRow, ...] = ()
    findings: tuple[str, ...] = ()
    """a sentence each: the worst group, what the age of a vector costs, what a new version left as it was"""


@dataclass(frozen=True)
class TableFreshness:
    """The newest partition of a table beside what its contract promises."""

    table: str
    newest: Day | None
    promise: str
    state: str
    """fresh: within the promise; level: as new as the log, which is old; behind: the log is newer; absent: no row."""
    age_hours: float | None = None
    days_behind_log: int | None = None
    partitions: int = 0


@dataclass(frozen=True)
class ServedParity:
    """How what one view serves compared with its table on a day."""

    view: str
    compared: str
    """What was compared: a sample of what is served, or the look-ups of a service."""
    day: Day
    sampled: int
    equal: int
    mismatched: int
    missing: int
    extra: int
    columns: tuple[str, ...] = ()
    edit_distance: float | None = None
    cosine: float | None = None


@dataclass(frozen=True)
class Report:
    """Every fact on the page. `known_at` is the time at which they were collected."""

    known_at: datetime
    days: Sequence[DayQuality] = ()
    reasons: Mapping[str, int] = field(default_factory=dict)
    mix: Mix | None = None
    movers: Sequence[Mover] = ()
    models: Sequence[ModelReport] = ()
    freshness: Sequence[TableFreshness] = ()
    parity: Sequence[ServedParity] = ()
    lineage: Sequence[tuple[str, str]] = ()
