"""`interest down`: stop the stack."""

from __future__ import annotations

import typer


def down(ctx: typer.Context) -> None:
    """Stop everything that `interest up` or `interest run` started for this home folder.

    Example: interest down
    """
    from pipeline.cli.edge import console, settings_of
    from pipeline.stack.processes import stop

    stopped = stop(settings_of(ctx))
    console.print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")
