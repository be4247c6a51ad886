"""`interest quarantine`: the rows that were refused, and another try after a fix."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.edge import console, escaped, print_json, settings_of


def quarantine(
    ctx: typer.Context,
    day: Annotated[str, typer.Argument(help="UTC day, YYYY-MM-DD.", metavar="DAY")],
    replay: Annotated[bool, typer.Option("--replay", help="Judge the day's refused rows again, after a fix.")] = False,
    limit: Annotated[int, typer.Option(help="Rows to show of each reason.", min=0)] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as one JSON object.")] = False,
) -> None:
    """Show why rows of a day were refused, with examples; or judge them again after a setting was corrected.

    Example: interest quarantine 1998-04-13

    Example: interest quarantine 1998-04-13 --replay
    """
    from pipeline.partitions import Day, utc_now
    from pipeline.steps.behavior_logs import replay_quarantine
    from pipeline.steps.quarantine import read_refusals

    settings, which = settings_of(ctx), Day.parse(day)
    if replay:
        outcome = replay_quarantine(which, settings, utc_now())
        if as_json:
            return print_json(outcome)
        console.print(f"{day}: {outcome.published:,} rows published, {outcome.quarantined:,} still refused.")
        return None
    refusals = read_refusals(which, settings, limit)
    if as_json:
        return print_json(refusals)
    if not refusals.reasons:
        console.print(f"{day}: no row was refused.")
    for refusal in refusals.reasons:
        console.print(f"[bold]{escaped(refusal.reason)}[/bold]  {refusal.rows:,} rows")
        for example in refusal.examples:
            found = f": {example.detail}" if example.detail else ""
            console.print(f"  {escaped(example.source_file)} row {example.source_row:,}{escaped(found)}")
    return None
