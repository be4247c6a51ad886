"""`interest train`: train and gate both models, and serve what was promoted."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.edge import console, escaped, print_json, settings_of

if TYPE_CHECKING:
    from pipeline.partitions import Day
    from pipeline.settings import Settings

SHOWN = ("ndcg@10", "recall@50")


class Model(StrEnum):
    """What to train."""

    both = "both"
    interest_evolution = "interest_evolution"
    collaborative_filter = "collaborative_filter"


def train(
    ctx: typer.Context,
    as_of: Annotated[
        str | None,
        typer.Option(help="The last UTC day of data, YYYY-MM-DD; the newest published one by default.", metavar="DAY"),
    ] = None,
    model: Annotated[Model, typer.Option(help="The model to train.")] = Model.both,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Embed item texts, train and gate the models as of a day, then embed users and push what was promoted online.

    A model that was trained as of that day is not trained again. Exit code 0 also when the gate holds a model: that is
    an answer, not a failure.

    Example: interest train --as-of 1998-04-12
    """
    from pipeline.partitions import Day, utc_now
    from pipeline.steps import collaborative_filter, interest_evolution
    from pipeline.steps.item_text import embed_items
    from pipeline.steps.long_term_interest import embed_users, restate_interest
    from pipeline.steps.recommendations import recommend_items, restate_recommendations

    settings = settings_of(ctx)
    last = Day.parse(as_of) if as_of is not None else _newest(settings)
    cutoff, served = last.end, last.plus(1)
    result: dict = {"as_of": last.key, "items": embed_items(settings, utc_now()), "trained": [], "gated": []}
    if model in (Model.both, Model.interest_evolution):
        result["trained"].append(interest_evolution.train_interest_model(cutoff, settings, utc_now()))
        result["gated"].append(interest_evolution.gate_interest_model(cutoff, settings, utc_now()))
    if model in (Model.both, Model.collaborative_filter):
        result["trained"].append(collaborative_filter.train_collaborative_filter(cutoff, settings, utc_now()))
        result["gated"].append(collaborative_filter.gate_collaborative_filter(cutoff, settings, utc_now()))
    if any(gated.promoted for gated in result["gated"]):
        # After both gates: the vectors that serve are those of the release.
        result["long_term_interest"] = embed_users(served, settings, utc_now(), everyone=True)
        result["embedded_again"] = restate_interest(settings, utc_now())
    if model != Model.interest_evolution and result["gated"][-1].promoted:
        result["recommendations"] = recommend_items(served, settings, utc_now())
        result["recommended_again"] = restate_recommendations(settings, utc_now())
    if as_json:
        print_json({name: _facts(value) for name, value in result.items()})
    else:
        _show(result)


def _newest(settings: Settings) -> Day:
    """The newest day of events. Raises NotFound when there is none."""
    from pipeline.contracts import BEHAVIOR_EVENTS
    from pipeline.errors import NotFound
    from pipeline.stores.tables import Lake

    days = Lake.of(settings).days(BEHAVIOR_EVENTS)
    if not days:
        raise NotFound("No event has been published, so there is nothing to train on. Run `interest load` first.")
    return days[-1]


def _facts(value: object) -> object:
    from pipeline.observability import facts_of

    if isinstance(value, list):
        return [facts_of(part) for part in value]
    return value if isinstance(value, str) else facts_of(value)


def _show(result: dict) -> None:
    from rich.table import Table

    table = Table(box=None, title=f"Trained on data up to and including {result['as_of']}", title_justify="left")
    for name in ("model", "version", *SHOWN, "gate", "champion before"):
        table.add_column(name)
    for trained, gated in zip(result["trained"], result["gated"], strict=True):
        numbers = [f"{trained.metrics[name]:.4f}" if name in trained.metrics else "no value" for name in SHOWN]
        before = "none" if gated.champion is None else f"version {gated.champion}"
        table.add_row(trained.model, str(trained.version), *numbers, "promoted" if gated.promoted else "held", before)
    console.print(table)
    for gated in result["gated"]:
        console.print(f"{gated.model} version {gated.version}:")
        for reason in gated.reasons:
            console.print(f"  {escaped(reason)}")
    if embedded := result.get("long_term_interest"):
        console.print(f"long_term_interest of {embedded.day}: {embedded.users} users, {embedded.pushed} pushed online")
    if ranked := result.get("recommendations"):
        console.print(f"recommendations of {ranked.day}: {ranked.users} users, {ranked.pushed} pushed online")
    for name in ("embedded_again", "recommended_again"):
        if days := [part.day for part in result.get(name, [])]:
            console.print(f"{name.replace('_', ' ')}, because another version serves them now: {', '.join(days)}")
