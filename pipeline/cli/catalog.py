"""`interest catalog`: what features there are, for other teams."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.edge import console, escaped, print_json, settings_of


def catalog() -> None:
    """The feature catalogue: every feature with its meaning, freshness, statistics, lineage and consumers.

    Example: interest catalog build
    """


def build(
    ctx: typer.Context,
    out: Annotated[
        Path | None, typer.Option(help="The folder to write; default: catalog in the home folder.", metavar="DIR")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as one JSON object.")] = False,
) -> None:
    """Write the catalogue as pages that open anywhere and as catalog.json. `interest up` serves it.

    Example: interest catalog build --out catalog
    """
    from pipeline.partitions import utc_now
    from pipeline.steps.catalog import build_catalog

    built = build_catalog(settings_of(ctx), utc_now(), out)
    if as_json:
        return print_json(built)
    console.print(f"{built.features} features in {built.views} views: [bold]{escaped(built.folder)}/index.html[/bold]")
    if built.stale:
        console.print(f"  stale, older than promised: {', '.join(built.stale)}")
    return None


SUBCOMMANDS = {"build": build}
