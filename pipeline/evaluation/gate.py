"""
Whether a challenger becomes the champion. The rules are settings; the decision is a list of readable outcomes.

A rule compares the challenger with the champion on the same users by the paired difference, as a share of the
champion's mean. It passes while the loss is at most `max_drop`, or where it says so, when the gain is at least
`min_gain`: of the mean, of the bad end of the bootstrap interval (`evidence = "interval"`) or of its good end
(`certain_loss`). All are shown. A metric of which less is better (LESS_IS_BETTER) is lost by growing. A rule for `each
group` is one rule for every group of users: none is left behind. Without a champion the rules on all users are held
against popularity, which sets no mark for a group and none to be beaten by.

A challenger is always held when its scores are NaN, infinite or constant, and when there is a champion and no rule
had enough users to be enforced: what serves well is not replaced without evidence.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

from pipeline.evaluation.cohorts import GROUPS
from pipeline.evaluation.comparison import Comparison
from pipeline.settings.learning import Gate, GateRule

EACH_GROUP = "each group"
LESS_IS_BETTER = ("miscalibration", "head_share")
CONSTANT_SHARE = 0.01
"""The share of users for whom all items may score the same (users of whom a model knows nothing)."""


@dataclass(frozen=True)
class RuleOutcome:
    """One rule, and how it came out."""

    metric: str
    cohort: str
    opponent: str
    users: int
    challenger: float
    champion: float
    change: float
    """paired difference as a share of the opponent's mean; NaN when nobody has a value"""
    low: float
    high: float
    max_drop: float
    min_gain: float | None
    evidence: str
    enforced: bool
    passed: bool
    reason: str


@dataclass(frozen=True)
class GateDecision:
    """Promote or hold, and why."""

    promote: bool
    challenger: str
    champion: str | None
    outcomes: tuple[RuleOutcome, ...]
    reasons: tuple[str, ...]
    """one sentence each, the decisive ones first; never empty"""

    def to_dict(self) -> dict:
        """JSON-serialisable; numbers that are not finite become null."""
        found = asdict(self)
        for outcome in found["outcomes"]:
            for name, value in outcome.items():
                if isinstance(value, float) and not math.isfinite(value):
                    outcome[name] = None
        return found | {"outcomes": list(found["outcomes"]), "reasons": list(self.reasons)}


def decide(
    comparison: Comparison,
    challenger: str,
    champion: str | None,
    gate: Gate,
    popularity: str = "popularity",
) -> GateDecision:
    """Judge one model of a comparison against another one of it.

    Args:
        comparison: holds the challenger, the champion (if there is one) and popularity, asked on the same users.
        champion: None for a first champion.
        gate: the rules.

    Raises:
        ValueError: a rule names a metric, a cohort or a model that the comparison does not have.
    """
    unsound = _unsound(comparison, challenger)
    opponent = champion or (popularity if gate.beats_popularity else None)
    rules = _spread(gate.rules, comparison) if champion else _first_rules(gate.rules)
    outcomes = tuple(_outcome(comparison, rule, challenger, opponent) for rule in rules) if opponent else ()
    failed = [outcome.reason for outcome in outcomes if outcome.enforced and not outcome.passed]
    enforced = [outcome for outcome in outcomes if outcome.enforced]
    if unsound or failed:
        promote, reasons = False, [*unsound, *failed]
    elif champion and not enforced:
        promote = False
        reasons = ["Held: no rule had enough users to be enforced, so there is no evidence against the champion."]
    elif champion:
        promote, reasons = True, [f"Promoted: {len(enforced)} of {len(outcomes)} rules enforced, all passed."]
    elif enforced:
        promote, reasons = True, [f"Promoted as the first champion: not worse than {opponent}."]
    else:
        promote = True
        reasons = ["Promoted as the first champion without a comparison: too few users, or none was asked for."]
    shown = [outcome.reason for outcome in outcomes if outcome.reason not in reasons]
    return GateDecision(promote, challenger, champion, outcomes, tuple(reasons + shown))


def _unsound(comparison: Comparison, challenger: str) -> list[str]:
    """Why the scores cannot be trusted whatever the metrics say; empty when they can."""
    if challenger not in comparison.health:
        raise ValueError(f"No model {challenger!r} in this comparison. There are: {', '.join(comparison.models)}.")
    health, users = comparison.health[challenger], comparison.facts["users"]
    found = []
    if health.broken_users:
        found.append(f"Held: the scores of {health.broken_users} of {users} users are NaN or infinite.")
    if health.constant_users > CONSTANT_SHARE * users:
        found.append(f"Held: all items score the same for {health.constant_users} of {users} users.")
    return found


def _first_rules(rules: tuple[GateRule, ...]) -> tuple[GateRule, ...]:
    """The rules on all users: popularity is no champion, so it sets no mark for a cohort and none to be beaten by."""
    return tuple(rule for rule in rules if rule.cohort == "all" and rule.min_gain is None)


def _spread(rules: tuple[GateRule, ...], comparison: Comparison) -> tuple[GateRule, ...]:
    """A rule for each group becomes as many rules as there are groups."""
    return tuple(
        rule.model_copy(update={"cohort": cohort})
        for rule in rules
        for cohort in ([name for name in GROUPS if name in comparison.cohorts] if rule.cohort == EACH_GROUP
                       else [rule.cohort])
    )


def _outcome(comparison: Comparison, rule: GateRule, challenger: str, opponent: str) -> RuleOutcome:
    own = comparison.interval(challenger, rule.metric, rule.cohort)
    other = comparison.interval(opponent, rule.metric, rule.cohort)
    _, change = comparison.difference(challenger, opponent, rule.metric, rule.cohort)
    sign = -1.0 if rule.metric.startswith(LESS_IS_BETTER) else 1.0
    worst, best = sorted((sign * change.low, sign * change.high))
    judged = {"mean": sign * change.mean, "interval": worst, "certain_loss": best}[rule.evidence]
    outcome = RuleOutcome(
        metric=rule.metric,
        cohort=rule.cohort,
        opponent=opponent,
        users=change.users,
        challenger=own.mean,
        champion=other.mean,
        change=change.mean,
        low=change.low,
        high=change.high,
        max_drop=rule.max_drop,
        min_gain=rule.min_gain,
        evidence=rule.evidence,
        enforced=change.users >= rule.min_users,
        passed=judged >= (-rule.max_drop if rule.min_gain is None else rule.min_gain),  # False for NaN
        reason="",
    )
    return replace(outcome, reason=_sentence(outcome, rule, comparison.confidence))


def _sentence(outcome: RuleOutcome, rule: GateRule, confidence: float) -> str:
    """For example `passed: ndcg@10 on all (812 users) .0412 v champion .0405, +1.7 % [-2.1 %, +5.6 %], ...`."""
    name = f"{outcome.metric} on {outcome.cohort}"
    if not outcome.users:
        return f"not enforced: {name}: no user has a value."
    verdict = ("passed" if outcome.passed else "failed") if outcome.enforced else "not enforced"
    needs = "" if outcome.enforced else f"; {rule.min_users} users are needed"
    of = {"mean": "mean", "interval": "interval", "certain_loss": "interval's good end"}[rule.evidence]
    bound = f"may drop by {rule.max_drop:.0%}" if rule.min_gain is None else f"must gain {rule.min_gain:.0%}"
    if rule.metric.startswith(LESS_IS_BETTER):
        bound += ", less is better"
    # A resample in which the opponent scores 0 has no relative change: the interval is open at that end.
    high = f"{outcome.high:+.1%}" if math.isfinite(outcome.high) else "no upper bound"
    return (
        f"{verdict}: {name} ({outcome.users} users) {outcome.challenger:.4f} v {outcome.opponent} "
        f"{outcome.champion:.4f}, {outcome.change:+.1%} [{outcome.low:+.1%}, {high}] at {confidence:.0%}; "
        f"the {of} {bound}{needs}"
    )
