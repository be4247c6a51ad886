"""`interest online`: the store that answers look-ups."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.edge import console, print_json, settings_of


def online() -> None:
    """The online store: refill it from the tables.

    Example: interest online rebuild
    """


def rebuild(
    ctx: typer.Context,
    as_of: Annotated[
        str | None, typer.Option(help="Take rows up to this UTC day, YYYY-MM-DD; today when not given.", metavar="DAY")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Refill the online store from the tables, for example after it was lost. Safe to repeat; look-ups go on.

    Nothing that is served is replaced by something older: to go back to an earlier day, empty the store first.

    Example: interest online rebuild

    Example: interest online rebuild --as-of 1998-04-12 --json
    """
    from pipeline.partitions import Day, utc_now
    from pipeline.steps.online_rebuild import rebuild_online

    day = Day.parse(as_of) if as_of is not None else Day.of(utc_now())
    rebuilt = rebuild_online(day, settings_of(ctx))
    if as_json:
        return print_json(rebuilt)
    for view in rebuilt.views:
        standing = f", {view.refused:,} were served already" if view.refused else ""
        console.print(f"{view.view}: {view.accepted:,} of {view.rows:,} rows written{standing}, {view.seconds:.1f} s")
    console.print(f"{rebuilt.rows:,} rows as of {rebuilt.as_of} in {rebuilt.seconds:.1f} s")
    return None


SUBCOMMANDS = {"rebuild": rebuild}
