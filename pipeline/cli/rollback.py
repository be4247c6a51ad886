"""`interest rollback`: serve with another release."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from pipeline.cli.edge import console, escaped, print_json, settings_of


def rollback(
    ctx: typer.Context,
    to: Annotated[
        int | None,
        typer.Option(help="The collaborative_filter version to serve with; the one before when not given."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the ledger.")] = "asked for, without a reason",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Serve with another release: user vectors, item index and factors together, at once and until a newer promotion.

    The newest day is written again for everybody, in the tables and online; earlier days stay as they were served.
    Naming the release that serves already writes it out once more, which finishes a rollback that was interrupted.

    Example: interest rollback --reason "lists of one category only"

    Example: interest rollback --to 3 --json
    """
    from pipeline.partitions import Day, utc_now
    from pipeline.steps.releases import roll_back

    done = roll_back(to, reason, _who(), settings_of(ctx), utc_now())
    if as_json:
        return print_json(done)
    console.print(
        f"release {done.from_version} -> {done.to_version} (interest version {done.interest_version}, "
        f"space {escaped(done.from_space)} -> {escaped(done.to_space)}), from {Day.of(done.since)} on"
    )
    console.print(f"  withdrawn: {escaped(', '.join(done.withdrawn) or 'nothing')}")
    console.print(f"  online: {done.vectors:,} vectors and {done.lists:,} lists replaced in {done.seconds:.1f} s")
    return None


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run under an id that has no name
        return "somebody at the command line"
