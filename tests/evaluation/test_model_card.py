"""What a model card tells a reader."""

from datetime import UTC, datetime

from pipeline.evaluation.comparison import SHOWN
from pipeline.evaluation.model_card import model_card
from pipeline.evaluation.split import TimeSplit


def row(name: str, mean: float) -> dict:
    return {"model": name} | {metric: {"mean": mean, "low": mean, "high": mean} for metric in SHOWN}


def test_a_card_says_for_whom_it_works_whether_interest_helps_how_it_ages_and_what_limits_it(histories_of):
    evaluation = {
        "comparison": {
            "facts": {"users": 90, "events": 300, "items": 40},
            "table": [row("interest_evolution", 0.2)],
            "calibration": {"interest_evolution": None, "hybrid": 0.0123},
            "by_cohort": {
                "new": {
                    "interest_evolution": {"users": 12} | dict.fromkeys(SHOWN, 0.125),
                    "hybrid": {"users": 12} | dict.fromkeys(SHOWN, 0.25),
                },
                "cold": {"interest_evolution": {"users": 0} | dict.fromkeys(SHOWN)},
            },
        },
        "placebo": {"table": [row("own", 0.31)]},
        "hybrid_placebo": {"table": [row("another", 0.32)]},
        "staleness": {"table": [row("14_days_old", 0.33)]},
    }
    split = TimeSplit.of(datetime(2026, 3, 1, tzinfo=UTC), 14, 14)
    learned = histories_of({"u1": "abc", "u2": "", "u3": "ab"})
    key = "interest_evolution@2026-03-01"
    card = model_card("interest_evolution", key, split, evaluation, {"dim": 64}, {}, learned)
    assert "5 events of 2 users on 3 items, the first of 2026-02-28" in card
    assert "| new | 12 | 0.2500 |" in card and "off by 0.0123" in card
    assert "| new | 12 | 0.1250 |" in card and "| cold |" not in card
    wanted = ("| own | 0.3100", "| another | 0.3200", "| 14_days_old | 0.3300", "## Limits", "## Intended use",
              "## Data and cutoff", "2026-03-01", "`dim`: 64")
    for text in wanted:
        assert text in card
