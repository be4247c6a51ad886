"""Facts for a page: small, complete, and with text in them that a page must not obey."""

from datetime import UTC, date, datetime

import numpy as np
import pytest

from pipeline.partitions import Day
from pipeline.report.facts import DayQuality, Interval, ModelReport, Report, RuleRow, ScoreRow, TableFreshness
from pipeline.report.migration import Mix, Mover, short_id

KNOWN_AT = datetime(2026, 1, 20, 12, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>'; DROP TABLE users; --\x07\x1b[31m\u202egnp"


def scores(value: float) -> dict[str, Interval]:
    return {
        "ndcg@10": Interval(value, value - 0.01, value + 0.01),
        "recall@50": Interval(2 * value, 2 * value - 0.02, 2 * value + 0.02),
    }


@pytest.fixture
def report() -> Report:
    days = [
        DayQuality(Day(date(2026, 1, 1 + i)), "published", 110 + i, 100 + i, 7, 3, ("volume is low",) if i == 4 else ())
        for i in range(18)
    ]
    days.append(DayQuality(Day(date(2026, 1, 19)), "failed", 0, 0, 0, 0, ("refused_share 0.9 is above 0.3",)))
    names = ("Drama", HOSTILE, "Comedy", "all others")
    shares = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.3, 0.4, 0.2], [0.2, 0.2, 0.3, 0.3], [0.25, 0.25, 0.25, 0.25]])
    starts = tuple(date(2026, 1, day) for day in (1, 8, 15, 22))
    mover = Mover(
        short_id("customer-4711-jane"),
        0.41,
        names,
        (0.6, 0.2, 0.1, 0.1),
        (0.1, 0.1, 0.7, 0.1),
        date(2026, 1, 1),
        date(2026, 1, 18),
        40,
    )
    model = ModelReport(
        "interest_evolution",
        "interest_evolution@2026-01-12",
        ("ndcg@10", "recall@50"),
        (ScoreRow("interest_evolution", "challenger", scores(0.08)), ScoreRow("popularity", "baseline", scores(0.04))),
        (ScoreRow("own vector", "challenger", scores(0.08)), ScoreRow("no vector (zeros)", "baseline", scores(0.06))),
        "ndcg@10",
        203,
        "asked as of 2026-01-05",
        "promoted",
        ("not worse than popularity", HOSTILE),
        1,
        KNOWN_AT,
        rules=(
            RuleRow(HOSTILE, "recall@50 on new", "champion", 31, -0.4, -0.6, float("nan"), "drop at most 5%", "failed"),
            RuleRow("", "ndcg@10 on all", "champion", 203, 0.02, -0.01, 0.05, "gain at least 1%", "passed"),
        ),
        findings=("ndcg@10: new users are served worst", HOSTILE),
    )
    return Report(
        known_at=KNOWN_AT,
        days=days,
        reasons={"event_time_outside_day": 120, HOSTILE: 6},
        mix=Mix(starts, names, shares, (10, 10, 10, 10)),
        movers=[mover],
        models=[model],
        freshness=[
            TableFreshness("behavior_events", Day(date(2026, 1, 19)), "26h", "fresh", 12.0, 0, 19),
            TableFreshness("recommendations", Day(date(2026, 1, 17)), "26h", "behind", 60.0, 2, 4),
            TableFreshness("long_term_interest", None, "26h", "absent"),
        ],
        lineage=[("table behavior_events", "Delta version 12"), ("space", HOSTILE)],
    )
