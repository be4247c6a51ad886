"""`interest state-hash`: whether two homes hold the same."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.edge import console, print_json, settings_of


def state_hash(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print every hash as one JSON object.")] = False,
) -> None:
    """Print a hash of what the tables, the registry and the online store hold, part by part, and one of all.

    It does not depend on when, in which order or in how many attempts that was written: the same logs give the same
    hash, whatever failed on the way. Nothing is changed.

    Example: interest state-hash --json
    """
    from pipeline.steps.state_hash import state_hash as hash_of

    found = hash_of(settings_of(ctx))
    if as_json:
        return print_json(found)
    for part in ("tables", "registry", "online"):
        for name, digest in getattr(found, part).items():
            console.print(f"{part} {name}: {digest[:16]}")
    console.print(f"total: {found.total}")
    return None
