"""
From the saved evaluation of a model to what the page shows of it.

An evaluation is JSON: `comparison` and `placebo` as `Comparison.to_dict()` writes them, `decision` as
`GateDecision.to_dict()` does. A part that is absent is not shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from pipeline.report.facts import Interval, ModelReport, RuleRow, ScoreRow

CHAMPION = "champion"
"""The name of the serving version in a comparison."""
PARTS = ("interest_evolution", "content", "hybrid")
"""What a release is made of or made into, beside the model that is judged."""
PLACEBO_NAMES = {
    "own": "own vector",
    "another": "another user's vector",
    "90_days_ago": "own vector of 90 days before",
    "zeros": "no vector (zeros)",
}


def model_report(
    model: str,
    run_key: str,
    evaluation: Mapping,
    *,
    decision: str = "",
    reasons: Sequence[str] = (),
    version: int | None = None,
    decided_at: datetime | None = None,
) -> ModelReport:
    """One model's section; `decision` and what follows come from the ledger, where the decision is recorded."""
    comparison = evaluation.get("comparison") or (evaluation if "table" in evaluation else {})
    judged = evaluation.get("decision") or evaluation.get("gate") or {}
    standing = evaluation.get("champion_version")
    names = {CHAMPION: f"{model} version {standing}"} if standing is not None else {}
    roles = dict.fromkeys(PARTS, "part") | {f"{CHAMPION}_hybrid": "part", model: "challenger", CHAMPION: "champion"}
    metrics, rows = _rows(comparison, roles, names)
    placebo_metrics, placebo = _rows(evaluation.get("placebo") or {}, {"own": "challenger"}, PLACEBO_NAMES)
    rules = _rules(judged.get("outcomes") or ())
    told = tuple(outcome["reason"] for outcome in judged.get("outcomes") or ())
    reasons = reasons or judged.get("reasons", ())
    if told:  # What the table of rules says is not said again.
        reasons = [reason for reason in reasons if not reason.endswith(told)]
    facts = comparison.get("facts", {})
    if not decision and "promote" in judged:
        decision = "promoted" if judged["promote"] else "held"
    return ModelReport(
        model=model,
        run_key=run_key,
        metrics=metrics,
        rows=rows,
        placebo=placebo,
        placebo_metric=placebo_metrics[0] if placebo_metrics else "",
        placebo_finding=_finding(evaluation.get("placebo") or {}, placebo_metrics),
        users=facts.get("users"),
        period=f"asked as of {str(comparison['as_of'])[:10]}" if comparison.get("as_of") else "",
        decision=decision,
        reasons=tuple(reasons),
        version=version,
        decided_at=decided_at,
        rules=rules,
        findings=(
            *_fairness((comparison.get("fairness") or {}).get(model) or {}),
            *_staleness(evaluation.get("staleness") or {}),
            *_stability(comparison, model),
            *_hybrid(evaluation.get("hybrid_placebo") or {}),
        ),
    )


def _rules(outcomes: Sequence[Mapping]) -> tuple[RuleRow, ...]:
    """The decisive ones first: failed, passed, not enforced."""
    rows = []
    for outcome in outcomes:
        change, low, high = (
            float("nan") if outcome.get(name) is None else float(outcome[name]) for name in ("change", "low", "high")
        )
        gain = outcome.get("min_gain")
        verdict = ("passed" if outcome["passed"] else "failed") if outcome["enforced"] else "not enforced"
        rows.append(RuleRow(
            challenger=str(outcome.get("challenger_name") or ""),
            rule=f"{outcome['metric']} on {outcome['cohort']}",
            opponent=str(outcome["opponent"]),
            users=int(outcome["users"]),
            change=change,
            low=low,
            high=high,
            bound=f"drop at most {outcome['max_drop']:.0%}" if gain is None else f"gain at least {gain:.0%}",
            verdict=verdict,
        ))
    order = ("failed", "passed", "not enforced")
    return tuple(sorted(rows, key=lambda row: order.index(row.verdict)))


def _fairness(found: Mapping[str, Mapping]) -> tuple[str, ...]:
    return tuple(
        f"{metric}: {gap['worst']} users are served worst ({gap['worst_mean']:.4f}, interval {gap['worst_low']:.4f} to "
        f"{gap['worst_high']:.4f}), {gap['best']} users best; the gap is {gap['gap']:.4f}, interval "
        f"{gap['gap_low']:.4f} to {gap['gap_high']:.4f}."
        for metric, gap in found.items()
        if gap.get("worst") != gap.get("best")
    )


def _staleness(found: Mapping, metric: str = "recall@10") -> tuple[str, ...]:
    ages = [
        f"{row['model'].split('_')[0]} days {row[metric]['change']:+.1%}"
        for row in (found.get("table") or ())[1:]
        if (row.get(metric) or {}).get("change") is not None
    ]
    return (f"What an older state costs in {metric}: {', '.join(ages)}.",) if ages else ()


def _stability(comparison: Mapping, model: str) -> tuple[str, ...]:
    shared = (comparison.get("stability") or {}).get(model)
    if comparison.get("reference") != CHAMPION or shared is None:
        return ()
    return (f"Users without an event in the last week keep {shared:.0%} of their first ten items.",)


def _hybrid(found: Mapping) -> tuple[str, ...]:
    said = _finding(found, ("recall@50",)) if found.get("table") else ""
    return (f"In the hybrid: {said[0].lower()}{said[1:]}",) if said else ()


def _rows(
    comparison: Mapping, roles: Mapping[str | None, str], names: Mapping[str, str] | None = None
) -> tuple[tuple[str, ...], tuple[ScoreRow, ...]]:
    """The metrics of a comparison's table and its rows."""
    table = comparison.get("table") or []
    metrics = tuple(name for name, cell in (table[0] if table else {}).items() if isinstance(cell, Mapping))
    rows = tuple(
        ScoreRow(
            name=(names or {}).get(row["model"], str(row["model"])),
            role=roles.get(row["model"], "baseline"),
            scores={name: _interval(row[name]) for name in metrics if isinstance(row.get(name), Mapping)},
        )
        for row in table
    )
    return metrics, rows


def _finding(placebo: Mapping, metrics: Sequence[str]) -> str:
    """What the paired comparison of the own vector with none says, in a sentence."""
    own = next((row for row in placebo.get("table") or () if row["model"] == "own"), None)
    cell = own.get(metrics[0], {}) if own and metrics else {}
    change, low, high = (cell.get(name) for name in ("change", "change_low", "change_high"))
    if change is None or low is None:
        return ""
    upper = f"{high:+.1%}" if high is not None else "more than can be told"
    verdict = "it helps" if low > 0 else "it harms" if high is not None and high < 0 else "no effect is shown"
    return f"The own vector against none: {change:+.1%} of {metrics[0]}, interval {low:+.1%} to {upper}: {verdict}."


def _interval(cell: Mapping) -> Interval:
    """NaN where the evaluation has null: nobody had a value."""
    value, low, high = (
        float("nan") if cell.get(name) is None else float(cell[name]) for name in ("mean", "low", "high")
    )
    return Interval(value, low, high)
