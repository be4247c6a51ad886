"""What a model card tells a reader."""

from datetime import UTC, datetime

from pipeline.evaluation.comparison import SHOWN
from pipeline.evaluation.model_card import model_card
from pipeline.evaluation.split import TimeSplit


def row(name: str, mean: float) -> dict:
    return {"model": name} | {metric: {"mean": mean, "low": mean, "high": mean} for metric in SHOWN}


def test_a_card_says_for_whom_it_works_whether_interest_helps_how_it_ages_and_what_limits_it():
    evaluation = {
        "comparison": {
            "facts": {"users": 90, "events": 300, "items": 40},
            "table": [row("interest_evolution", 0.2)],
            "by_cohort": {
                "new": {"interest_evolution": {"users": 12} | dict.fromkeys(SHOWN, 0.125)},
                "cold": {"interest_evolution": {"users": 0} | dict.fromkeys(SHOWN)},
            },
        },
        "placebo": {"table": [row("own", 0.31)]},
        "hybrid_placebo": {"table": [row("another", 0.32)]},
        "staleness": {"table": [row("14_days_old", 0.33)]},
    }
    split = TimeSplit.of(datetime(2026, 3, 1, tzinfo=UTC), 14, 14)
    card = model_card("interest_evolution", "interest_evolution@2026-03-01", split, evaluation, {"dim": 64}, {})
    assert "| new | 12 | 0.1250 |" in card and "| cold |" not in card
    wanted = ("| own | 0.3100", "| another | 0.3200", "| 14_days_old | 0.3300", "## Limits", "2026-03-01", "`dim`: 64")
    for text in wanted:
        assert text in card
