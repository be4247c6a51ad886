"""Plans a backfill: reads what stands and what it would be made from, and touches nothing."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.backfill.definitions import DEFINITIONS, definition_of
from pipeline.backfill.plan import (
    PastRuns,
    Plan,
    PlannedPartition,
    Recipe,
    Standing,
    expected_rows,
    expected_seconds,
    plan_id_of,
    reasons_for,
)
from pipeline.contracts import BEHAVIOR_EVENTS, LONG_TERM_INTEREST, RECOMMENDATIONS, Table
from pipeline.errors import BadPartition
from pipeline.partitions import Day, days_between
from pipeline.settings import Settings
from pipeline.steps.provenance import DAY_BEFORE, LANDING, MODEL, catalogue_of, contents_in, day_before_of, made_from
from pipeline.steps.serving_days import Timeline
from pipeline.stores.backfills import Backfills
from pipeline.stores.landing import Landing
from pipeline.stores.ledger import Ledger, PartitionRecord
from pipeline.stores.model_versions import MODELS, Version
from pipeline.stores.registered import registered_versions
from pipeline.stores.tables import Lake

CHAIN = tuple(DEFINITIONS)
"""The tables that a backfill writes, in the order in which a day is made."""


def plan_backfill(
    first: Day,
    last: Day,
    settings: Settings,
    tables: Sequence[str] = (),
    reason: str = "",
    again: bool = False,
    train_as_of: Day | None = None,
) -> Plan:
    """Which partitions of a range a backfill would write, and why. Nothing is touched.

    Args:
        tables: names; only these, and where no reason is given still only what is stale of them. Empty for all.
        reason: why somebody wants every partition of the range written, whatever stands; once, unless `again`.

    Raises:
        BadPartition: the range is reversed, or a table is none that a backfill writes.
    """
    chosen = _chosen(tables)
    names = tuple(table.name for table in chosen)
    recipes = _Recipes(settings, [day.key for day in days_between(first, last)])
    past = Backfills(recipes.ledger)
    is_met = not again and any(r.asks(first.key, last.key, names, reason) and r.state == "done" for r in past.all())
    is_asked = again or (bool(reason) and not is_met)
    planned, cannot, written = [], [], []
    for day in days_between(first, last):
        written = [DAY_BEFORE] if BEHAVIOR_EVENTS.name in written else []
        for table in chosen:
            standing, recipe = recipes.standing(table, day), recipes.of(table, day, written)
            if not recipe.can_be_made:
                if standing is None and table == BEHAVIOR_EVENTS:
                    cannot.append(day.key)
                continue
            reasons = reasons_for(standing, recipe, written, is_asked, reason)
            if reasons:
                written.append(table.name)
                expected = standing.rows if standing else recipes.usual_rows(table)
                planned.append(
                    PlannedPartition(table=table.name, day=day.key, reasons=reasons, expected_rows=expected)
                )
    return Plan(
        plan_id=plan_id_of((first.key, last.key, names, reason, len(past.all())), planned),
        first=first.key,
        last=last.key,
        tables=names,
        reason=reason,
        partitions=tuple(planned),
        cannot_be_made=tuple(cannot),
        later_days=recipes.days_after(last) if planned else 0,
        expected_rows=expected_rows(planned),
        expected_seconds=expected_seconds(planned, PastRuns(past.seconds())) if planned else 0.0,
        models_retrained=tuple(f"{name} as of {train_as_of}, as a backtest" for name in MODELS if train_as_of),
    )


def _chosen(tables: Sequence[str]) -> tuple[Table, ...]:
    known = [table.name for table in CHAIN]
    if unknown := sorted(set(tables) - set(known)):
        raise BadPartition(f"A backfill does not write {', '.join(unknown)}. Expected some of {', '.join(known)}.")
    return tuple(table for table in CHAIN if not tables or table.name in tables)


class _Registered:
    """The registry as it is read without creating anything."""

    def __init__(self, settings: Settings):
        self.settings = settings

    def versions(self, model: str) -> list[Version]:
        return [entry.version for entry in registered_versions(self.settings, [model])]


class _Recipes:
    """What stands, and what a partition would be made by and from now; the stores are read once."""

    def __init__(self, settings: Settings, keys: Sequence[str]):
        self.settings = settings
        self.ledger, self.lake, self.landing = Ledger(settings.ledger_url), Lake.of(settings), Landing.of(settings)
        is_there = self.ledger.revisions()[0] is not None
        self.lines: dict[tuple[str, str], PartitionRecord] = {}
        for table in CHAIN if is_there else ():
            self.lines |= {(table.name, line.partition): line for line in self.ledger.partitions(table.name)}
        self.contents = contents_in(self.ledger, CHAIN) if is_there else {}
        self.catalogues = {table: catalogue_of(self.lake, table, keys) for table in CHAIN}
        self.definitions = {table: definition_of(table, settings) for table in CHAIN}
        registered = _Registered(settings)
        self.timelines = {
            LONG_TERM_INTEREST: Timeline.of_interest(registered),
            RECOMMENDATIONS: Timeline.of(registered, "collaborative_filter"),
        }

    def standing(self, table: Table, day: Day) -> Standing | None:
        line = self.lines.get((table.name, day.key))
        if line is None or line.state == "skipped":
            return None
        details = line.details
        return Standing(
            state=line.state,
            rows=line.counts.get("published", line.counts.get("rows", 0)),
            definition=details.get("definition", ""),
            # Lines from before the catalogue was noted do not say that it was another one.
            upstream=made_from(self.catalogues[table], day.key) | details.get("upstream", {}),
        )

    def of(self, table: Table, day: Day, written: Sequence[str]) -> Recipe:
        needs = tuple(other.name for other in DEFINITIONS[table].upstream)
        contents = {name: self.contents.get(name, {}) for name in needs} | self.catalogues[table]
        before = day_before_of(self.contents, table, self.settings)
        upstream = made_from(contents | before, day.key)
        can_be_made = True
        if table == BEHAVIOR_EVENTS:
            upstream = {LANDING: self.landing.fingerprint(day)}
            can_be_made = bool(self.landing.files(day)) or self.landing.says_empty(day)
        else:
            can_be_made = all(name in written or self._holds_rows(name, day) for name in needs)
        if table in self.timelines:
            version, _ = self.timelines[table].serving(day)
            upstream[MODEL] = str(version and version.number)
            can_be_made = can_be_made and version is not None
        return Recipe(self.definitions[table], upstream, (*needs, *before), can_be_made)

    def _holds_rows(self, name: str, day: Day) -> bool:
        line = self.lines.get((name, day.key))
        return line is not None and line.state in ("published", "empty")

    def usual_rows(self, table: Table) -> int | None:
        """The mean of the days that stand."""
        lines = [line for (name, _), line in self.lines.items() if name == table.name and line.state == "published"]
        heights = [line.counts.get("published", line.counts.get("rows", 0)) for line in lines]
        return round(sum(heights) / len(heights)) if heights else None

    def days_after(self, last: Day) -> int:
        return len({partition for (_, partition) in self.lines if partition > last.key})
