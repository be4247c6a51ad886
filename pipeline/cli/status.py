"""`interest status`: where everything stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.edge import console, escaped, print_json, settings_of

if TYPE_CHECKING:
    from pipeline.steps.status import PartitionStatus, Status

MARKS = {"published": "[green]", "empty": "[dim]", "failed": "[bold red]", "skipped": "[yellow]"}
MODEL_MARKS = {"promoted": "[green]", "held": "[yellow]", "candidate": "[dim]", "rolled_back": "[red]"}
PLAIN = "[default]"
EXCEPTIONS = ("quarantined_events", "late_events")
NARROW = ("version", "partitions", "rows", "age", "entities")


def status(
    ctx: typer.Context,
    days: Annotated[int, typer.Option(help="How many of the newest partitions of each table to list.", min=0)] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> None:
    """Show partitions with their state and counts, model versions, and how fresh the served features are.

    Example: interest status --days 14
    """
    from pipeline.partitions import utc_now
    from pipeline.steps.status import read_status

    found = read_status(settings_of(ctx), utc_now())
    if as_json:
        print_json(found)
    else:
        _show(found, days)


def _show(found: Status, days: int) -> None:
    console.print(f"[bold]{escaped(found.home)}[/bold]")
    if not found.tables:
        console.print(
            "Nothing has been loaded yet. `interest run` shows a sample, `interest load` takes your own logs."
        )
        return
    _show_tables(found)
    _show_partitions(found, days)
    if found.quarantine:
        table = _table("Quarantined rows", "reason", "rows")
        for reason, rows in found.quarantine.items():
            table.add_row(escaped(reason), f"{rows:,}")
        console.print(table)
    if found.late:
        table = _table("Rows that came too late", "day", "rows")
        for day, rows in found.late.items():
            table.add_row(escaped(day), f"{rows:,}")
        console.print(table)
        console.print("They wait in late_events. To take a day's in: interest backfill --from DAY --to DAY")
    _show_models(found)
    _show_online(found)


def _show_tables(found: Status) -> None:
    table = _table("Tables", "table", "version", "newest", "partitions", "counts")
    for entry in found.tables:
        states = "\n".join(f"{MARKS.get(state, PLAIN)}{rows:,} {state}[/]" for state, rows in entry.states.items())
        table.add_row(
            entry.table,
            "–" if entry.version is None else str(entry.version),
            entry.last or "–",
            states or "–",
            _counts(entry.counts),
        )
    console.print(table)


def _show_partitions(found: Status, days: int) -> None:
    shown: list[PartitionStatus] = []
    for entry in found.tables:
        own = [partition for partition in found.partitions if partition.table == entry.table]
        newest = own[-days:] if days else []
        # A day without a refused or late row is the rule; only an exception is worth a line.
        shown += [p for p in newest if p.table not in EXCEPTIONS or p.state != "empty"]
    # A failure is shown however old it is: it is why somebody looks.
    shown += [partition for partition in found.partitions if partition.state == "failed" and partition not in shown]
    if not shown:
        return
    warned = any(partition.warnings for partition in shown)
    table = _table("Newest partitions", "table", "partition", "state", "counts", *(["warnings"] if warned else []))
    for partition in sorted(shown, key=lambda p: (p.table, p.partition)):
        table.add_row(
            partition.table,
            escaped(partition.partition),
            f"{MARKS.get(partition.state, PLAIN)}{partition.state}[/]",
            _counts(partition.counts),
            *([escaped("; ".join(partition.warnings))] if warned else []),
        )
    console.print(table)


def _show_models(found: Status) -> None:
    if not found.models:
        console.print("No model has been registered yet: `interest train` makes the first.")
        return
    table = _table("Models", "model", "version", "status", "alias", "cutoff")
    for model in found.models:
        table.add_row(
            model.model,
            str(model.version),
            f"{MODEL_MARKS.get(model.status, PLAIN)}{model.status}[/]",
            ", ".join(model.aliases) or "–",
            model.model_cutoff.date().isoformat(),
        )
    console.print(table)
    for model in found.models:
        if model.status in ("held", "rolled_back") and model.reasons:
            console.print(f"{model.model} version {model.version} {model.status}: {escaped(model.reasons[0])}")


def _show_online(found: Status) -> None:
    table = _table("Served online", "view", "newest event time", "age", "entities")
    for view in found.online:
        newest = view.newest_event_time
        table.add_row(
            view.view,
            newest.isoformat(sep=" ", timespec="seconds") if newest else "nothing yet",
            _age(view.age_seconds),
            "–" if view.entities is None else f"{view.entities:,}",
        )
    console.print(table)


def _table(title: str, *names: str):
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(
            name,
            justify="right" if name in NARROW else "left",
            no_wrap=name not in ("counts", "warnings"),
        )
    return table


def _counts(counts: dict[str, int]) -> str:
    """The counts that are not zero, in words."""
    return ", ".join(f"{rows:,} {escaped(name.replace('_', ' '))}" for name, rows in counts.items() if rows) or "–"


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    hours = seconds / 3600
    return f"{hours:,.1f} h" if hours < 48 else f"{hours / 24:,.0f} days"
