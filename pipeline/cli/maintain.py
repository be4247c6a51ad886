"""`interest maintain`: the lake's weekly upkeep, by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.edge import console, escaped, print_json, settings_of


def maintain(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Merge small files of the tables and delete old versions and logged look-ups; safe to repeat.

    Settings: stores.keep_versions_days, lookups.keep_days.

    Example: interest maintain
    """
    from pipeline.partitions import utc_now
    from pipeline.steps.maintenance import maintain_lake

    done = maintain_lake(settings_of(ctx), utc_now())
    if as_json:
        print_json(done)
        return
    for table in done.tables:
        console.print(
            f"{escaped(table.table)}: {table.merged_files:,} small files merged into {table.written_files:,}, "
            f"{table.deleted_files:,} old files deleted"
        )
    console.print(f"{done.forgotten_lookups:,} logged look-ups were old, and are deleted.")
    console.print(f"Versions of the last {done.kept_days:g} days can be read.")
