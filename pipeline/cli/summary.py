"""What the main job has done, read back from the stores, and what of it fell short."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.table import Table

from pipeline.cli.edge import console, escaped

if TYPE_CHECKING:
    from pipeline.settings import Settings
    from pipeline.steps.status import ModelStatus, Status

FEATURE_TABLES = ("sequence_features", "interest_windows", "long_term_interest", "recommendations")
METRICS = ("ndcg@10", "recall@50", "coverage")
SHOWN_ITEMS = 5


def print_summary(settings: Settings) -> list[str]:
    """Print the summary. Returns what is missing from a job that succeeded; nothing where all is true."""
    from pipeline.partitions import utc_now
    from pipeline.steps.status import read_status

    status = read_status(settings, utc_now())
    shortfalls = [*_print_rows(status), *_print_models(settings, status)]
    shortfalls += [*_print_online(status), *_print_one_user(settings)]
    _print_places(settings)
    return shortfalls


def _print_rows(status: Status) -> list[str]:
    tables = {table.table: table for table in status.tables}
    console.rule("Rows", align="left")
    events = tables.get("behavior_events")
    counts = events.counts if events else {}
    read, kept = counts.get("read", 0), counts.get("published", 0)
    refused, twice = counts.get("quarantined", 0), counts.get("duplicates", 0)
    console.print(f"{read:,} rows in = {kept:,} published + {refused:,} quarantined + {twice:,} duplicates")
    for reason, rows in status.quarantine.items():
        console.print(f"  quarantined: {rows:,} {escaped(reason)}")
    for name in FEATURE_TABLES:
        table = tables.get(name)
        if table:
            console.print(f"  {name}: {table.counts.get('rows', 0):,} rows, {table.first} to {table.last}")
    filled = {name for name, table in tables.items() if table.partitions}
    empty = [name for name in ("behavior_events", *FEATURE_TABLES) if name not in filled]
    failed = [f"{p.table} {p.partition} is {p.state}" for p in status.partitions if p.state == "failed"]
    unbalanced = [] if read == kept + refused + twice else ["The rows in and the rows accounted for differ."]
    return [f"Nothing was written to {name}." for name in empty] + failed + unbalanced


def _print_models(settings: Settings, status: Status) -> list[str]:
    from pipeline.stores.model_versions import MODELS

    shortfalls = []
    for name in MODELS:
        versions = [version for version in status.models if version.model == name]
        if not versions:
            shortfalls.append(f"No version of {name} was registered.")
            continue
        newest = max(versions, key=lambda version: version.version)
        console.rule(f"{name}, version {newest.version}, data before {newest.model_cutoff.date()}", align="left")
        _print_metrics(settings, newest)
        for version in sorted(versions, key=lambda version: version.version):
            console.print(f"version {version.version} {version.status} {' '.join(version.aliases)}")
            for reason in version.reasons:
                console.print(f"  {escaped(reason)}")
        if not any("champion" in version.aliases for version in versions):
            shortfalls.append(f"{name} has no champion: the gate promoted none of its versions.")
    return shortfalls


def _print_metrics(settings: Settings, version: ModelStatus) -> None:
    """Challenger, champion and baselines on the same users and days."""
    file = settings.place("models") / version.run_key / "evaluation.json"
    if not file.is_file():
        return
    evaluation = json.loads(file.read_text())
    rows = (evaluation.get("comparison") or {}).get("table") or []
    table = Table(box=None, pad_edge=False)
    table.add_column("model")
    for name in METRICS:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(escaped(row["model"]), *(_cell(row.get(name)) for name in METRICS))
    console.print(table)


def _cell(value: object) -> str:
    """A mean with its interval, in as few characters as eighty columns need."""
    if isinstance(value, dict):
        if value.get("mean") is None:
            return "no value"
        return f"{value['mean']:.3f} [dim]{value['low']:.3f}-{value['high']:.3f}[/dim]"
    return f"{value:.3f}" if isinstance(value, float) else "no value"


def _print_online(status: Status) -> list[str]:
    console.rule("Online", align="left")
    for view in status.online:
        if not view.entities:
            continue
        newest = view.newest_event_time.date() if view.newest_event_time else "unknown"
        console.print(f"  {view.view}: {view.entities:,} entities, newest {newest}")
    served = {view.view for view in status.online if view.entities}
    return [f"No row of {name} is online." for name in FEATURE_TABLES if name not in served]


def _print_one_user(settings: Settings) -> list[str]:
    """Look up and recommend for the user whose recommendations are the newest."""
    from pipeline.contracts import RECOMMENDATIONS
    from pipeline.partitions import utc_now
    from pipeline.serving.lookup import look_up
    from pipeline.serving.recommend import recommend, titles_of
    from pipeline.stores.tables import Lake

    lake = Lake.of(settings)
    days = lake.days(RECOMMENDATIONS)
    if not days:
        return ["No user has recommendations."]
    user = lake.read(RECOMMENDATIONS, days[-1])["user_id"][0]
    console.rule(f"User {escaped(user)}", align="left")
    found = look_up(settings, user, "ranking_v1", utc_now())
    for name, view in found.views.items():
        of = f", model version {view.model_version}, space {escaped(view.space_id)}" if view.space_id else ""
        console.print(f"  {name}: {view.status}, as of {view.event_time.date() if view.event_time else 'never'}{of}")
    answer = recommend(settings, [user], SHOWN_ITEMS, utc_now())
    titles = titles_of(settings, answer.rows["item_id"].to_list())
    for item, rank, score in answer.rows.select("item_id", "rank", "score").iter_rows():
        console.print(f"  {rank}. {escaped(titles.get(item, 'unknown'))} ({score:.3f})")
    short = [] if found.status != "not_found" else [f"The look-up of user {user} found nothing."]
    return short if answer.found else [*short, f"No item was recommended to user {user}."]


def _print_places(settings: Settings) -> None:
    from pipeline.stack.embedded import addresses

    console.rule("Where to look", align="left")
    console.print(f"  {'Report':<16} {settings.place('reports/report.html')}")
    console.print(f"  {'Catalogue':<16} {settings.place('catalog/index.html')}")
    console.print(f"  {'Data Docs':<16} {settings.place('data_docs/pages/index.html')}")
    for address in addresses(settings):
        console.print(f"  {address.name:<16} {address.url}   (after `make up`)")
