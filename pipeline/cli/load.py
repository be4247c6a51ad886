"""`interest load`: bring a log of your own into the landing folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def load(
    ctx: typer.Context,
    events: Annotated[Path, typer.Option(metavar="FILE", help="The log: CSV, JSON lines or Parquet.")],
    mapping: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="Where the columns are: movielens, movielens-100k, online-retail, otto, or a YAML file of your own.",
        ),
    ],
    items: Annotated[Path | None, typer.Option(metavar="FILE", help="The catalogue, where there is one.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take back what was loaded from the same path before it was corrected.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Sort a log into days and bring its items into the catalogue; safe to repeat. Every row is kept.

    Example: interest load --events ratings.csv --items movies.csv --mapping movielens
    """
    from pipeline.cli.edge import console, escaped, print_json, settings_of
    from pipeline.events.mapping import load_mapping
    from pipeline.partitions import utc_now
    from pipeline.steps.log_loading import load_logs

    settings = settings_of(ctx)
    loaded = load_logs(events, items, load_mapping(mapping), settings, utc_now(), replace=replace)
    if as_json:
        print_json(loaded)
        return
    what = "loaded" if loaded.changed else "had been loaded already; nothing changed"
    console.print(f"{loaded.rows:,} rows of {escaped(events.name)} {what}")
    empty = f", {loaded.days_without_events:,} of them without an event" if loaded.days_without_events else ""
    console.print(f"  days     {loaded.first_day} to {loaded.last_day}: {loaded.days:,} days{empty}")
    console.print(f"  items    {loaded.items:,} in the catalogue")
    for reason, rows in loaded.refused_by_mapping.items():
        console.print(f"  refused  {rows:,} rows by the mapping's rule {escaped(reason.removeprefix('mapping:'))}")
    if loaded.unreadable_times:
        console.print(f"  refused  {loaded.unreadable_times:,} rows have no readable or plausible time")
    if loaded.earlier_loads:
        names = ", ".join(escaped(name) for name in loaded.earlier_loads)
        console.print(f"  note     other content of the same path stays: {names}; --replace takes it back")
    if loaded.refused_by_mapping or loaded.unreadable_times:
        console.print("Refused rows are quarantined with their reason when their day is published.")
    console.print("Next: interest backfill")
