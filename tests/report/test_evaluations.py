from pipeline.report.evaluations import model_report


def cell(mean: float | None) -> dict:
    return {"mean": mean, "low": mean, "high": mean, "users": 9, "change": 0, "change_low": 0, "change_high": 0}


def row(name: str, mean: float | None) -> dict:
    return {"model": name, "coverage": 0.2, "ndcg@10": cell(mean), "recall@50": cell(mean)}


EVALUATION = {
    "champion_version": 3,
    "comparison": {
        "as_of": "2026-02-01T00:00:00+00:00",
        "facts": {"users": 200},
        "table": [row("collaborative_filter", 0.08), row("champion", 0.07), row("hybrid", 0.09), row("ease", None)],
    },
    "placebo": {"table": [row("own", 0.08), row("zeros", 0.06)]},
    "decision": {"promote": False, "reasons": ["failed: ndcg@10"]},
}


def test_rows_have_the_roles_that_a_reader_looks_for():
    shown = model_report("collaborative_filter", "collaborative_filter@2026-03-01", EVALUATION)

    assert [(row.name, row.role) for row in shown.rows] == [
        ("collaborative_filter", "challenger"),
        ("collaborative_filter version 3", "champion"),
        ("hybrid", "part"),
        ("ease", "baseline"),
    ]
    assert shown.metrics == ("ndcg@10", "recall@50")
    assert [row.name for row in shown.placebo] == ["own vector", "no vector (zeros)"]
    assert (shown.users, shown.decision, shown.reasons) == (200, "held", ("failed: ndcg@10",))


def test_the_ledger_has_the_last_word_about_a_decision():
    shown = model_report("m", "m@2026-03-01", EVALUATION, decision="promoted", reasons=["by hand"], version=4)

    assert (shown.decision, shown.reasons, shown.version) == ("promoted", ("by hand",), 4)


def test_a_value_that_is_null_is_not_a_number():
    shown = model_report("collaborative_filter", "k", EVALUATION)

    assert shown.rows[-1].scores["ndcg@10"].value != shown.rows[-1].scores["ndcg@10"].value


def test_an_evaluation_without_anything_in_it_is_shown_as_such():
    shown = model_report("m", "m@2026-03-01", {})

    assert (shown.rows, shown.placebo, shown.decision) == ((), (), "")


def test_the_placebo_is_put_into_words():
    helps = row("own", 0.08)
    helps["ndcg@10"] |= {"change": 0.25, "change_low": 0.1, "change_high": 0.4}

    said = model_report("m", "k", {"placebo": {"table": [helps, row("zeros", 0.06)]}}).placebo_finding

    assert said == "The own vector against none: +25.0% of ndcg@10, interval +10.0% to +40.0%: it helps."
    assert "no effect is shown" in model_report("m", "k", EVALUATION).placebo_finding


def test_the_rules_of_the_gate_are_rows_the_failed_ones_first_and_are_not_told_twice():
    outcome = {
        "metric": "ndcg@10", "cohort": "all", "opponent": "champion", "users": 90, "change": 0.02, "low": -0.01,
        "high": 0.05, "max_drop": 0.05, "min_gain": None, "enforced": True, "passed": True, "reason": "passed: ndcg",
    }
    worse = outcome | {"cohort": "heavy", "change": -0.3, "high": None, "passed": False, "reason": "failed: heavy"}
    better = outcome | {"min_gain": 0.1, "enforced": False, "reason": "not enforced: gain"}
    reasons = ["Held.", "hybrid: passed: ndcg", "failed: heavy", "not enforced: gain"]
    judged = {"promote": False, "reasons": reasons, "outcomes": [outcome, worse, better]}
    gap = {"worst": "new", "best": "heavy", "worst_mean": 0.1, "worst_low": 0.05, "worst_high": 0.15, "gap": 0.2,
           "gap_low": 0.1, "gap_high": 0.3}

    shown = model_report("m", "k", {"decision": judged, "comparison": {"fairness": {"m": {"ndcg@10": gap}}}})

    assert [(row.rule, row.verdict, row.bound) for row in shown.rules] == [
        ("ndcg@10 on heavy", "failed", "drop at most 5%"),
        ("ndcg@10 on all", "passed", "drop at most 5%"),
        ("ndcg@10 on all", "not enforced", "gain at least 10%"),
    ]
    assert shown.rules[0].high != shown.rules[0].high
    assert shown.reasons == ("Held.",)
    assert shown.findings[0].startswith("ndcg@10: new users are served worst (0.1000")


def test_age_stability_and_the_hybrids_placebo_are_put_into_words():
    old = row("14_days_old", 0.05) | {"recall@10": cell(0.05) | {"change": -0.04}}
    helps = row("own", 0.08)
    helps["recall@50"] |= {"change": 0.25, "change_low": 0.1, "change_high": 0.4}
    shown = model_report("m", "k", {
        "comparison": {"reference": "champion", "stability": {"m": 0.81}},
        "staleness": {"table": [row("0_days_old", 0.06), old]},
        "hybrid_placebo": {"table": [helps, row("zeros", 0.06)]},
    })

    assert shown.findings == (
        "What an older state costs in recall@10: 14 days -4.0%.",
        "Users without an event in the last week keep 81% of their first ten items.",
        "In the hybrid: the own vector against none: +25.0% of recall@50, interval +10.0% to +40.0%: it helps.",
    )
