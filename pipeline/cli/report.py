"""`interest report`: the state of everything on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.edge import console, escaped, print_json, settings_of


def report(
    ctx: typer.Context,
    out: Annotated[
        Path | None, typer.Option(help="Where to write the page; default: reports/report.html in the home folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as one JSON object.")] = False,
) -> None:
    """Write one self-contained HTML page: data quality, interest over time, models, freshness, lineage.

    Example: interest report --out report.html
    """
    from pipeline.errors import BadSetting
    from pipeline.partitions import utc_now
    from pipeline.steps.report import write_report

    settings = settings_of(ctx)
    if out is not None and out.is_dir():
        raise BadSetting(f"--out {out} is a folder. Name a file, for example {out / 'report.html'}.")
    written = write_report(settings, utc_now(), out)
    if as_json:
        print_json(written)
    else:
        console.print(
            f"Report of {written.days:,} days and {written.events:,} events: [bold]{escaped(written.path)}[/bold] "
            f"({written.bytes / 1024:,.0f} kB). Open it in a browser; it needs no network."
        )
