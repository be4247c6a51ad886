"""`interest pseudonyms`: the keyed names that stand at rest instead of users' ids."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.edge import console, print_json, settings_of


def pseudonyms() -> None:
    """The keyed pseudonyms at rest: rotate their key.

    Example: interest pseudonyms rotate
    """


def rotate(
    ctx: typer.Context,
    given: Annotated[
        bool,
        typer.Option(
            "--given", help="Make no key: use those there are, for keys from the settings and after a crash."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Add a key and re-key the landing files, every table and the online store. Pause all Dags meanwhile.

    Also the way to hide the ids of a platform on which `privacy.pseudonymise` was switched on late (--given).

    Example: interest pseudonyms rotate

    Example: interest pseudonyms rotate --given --json
    """
    from pipeline.partitions import utc_now
    from pipeline.steps.pseudonym_rotation import rotate_pseudonyms

    rotated = rotate_pseudonyms(settings_of(ctx), utc_now(), new_key=not given)
    if as_json:
        return print_json(rotated)
    for table, rows in rotated.rows.items():
        console.print(f"{table}: {rows:,} rows re-keyed")
    console.print(f"{rotated.files:,} landing files re-keyed, {rotated.served:,} users served under a new name")
    return None


SUBCOMMANDS = {"rotate": rotate}
