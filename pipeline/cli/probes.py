"""`interest probes`: whether the space that serves keeps what other teams rely on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.edge import console, escaped, print_json, settings_of


def probes(
    ctx: typer.Context,
    folder: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Where the probes are; feature_repo/probes.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as one JSON object.")] = False,
) -> None:
    """Replay every probe against the interest model that serves. Exit code 3 when one fails that holds promotions.

    Example: interest probes

    Example: interest probes --folder my-probes --json
    """
    from pipeline.partitions import utc_now
    from pipeline.steps.probes import replay_on_champion

    results = replay_on_champion(settings_of(ctx), utc_now(), folder)
    if as_json:
        print_json({"probes": [asdict(result) for result in results]})
    else:
        for result in results:
            console.print(escaped(result.reason))
        if not results:
            console.print("There is no probe.")
    if any(result.holds for result in results):
        raise typer.Exit(3)
