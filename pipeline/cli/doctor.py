"""`interest doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.edge import console, escaped, print_json, settings_of

if TYPE_CHECKING:
    from pipeline.steps.findings import Diagnosis

MARKS = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "error": "[bold red]error[/]"}


def doctor(
    ctx: typer.Context,
    settings_file: Annotated[
        Path | None,
        typer.Option("--settings", help="Check this settings file for production instead; nothing is connected to."),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Rebuild the ledger from the tables and remove leftovers.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Also look for anything unfinished; a warning counts as an error.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print every finding as one JSON object.")] = False,
) -> None:
    """Check versions, paths, stores, ports, leftovers and secrets; say what was found and what to do.

    Exit code 0 when there is no error; a warning is no error. With --strict also when nothing is left over: no draft,
    no lock that is held, no failed day, no commit that the ledger has not heard of, no model on its way, no erasure
    that stopped, no difference between what is served and the tables.

    Example: interest doctor --repair

    Example: interest doctor --strict
    """
    found = _check_file(settings_file, repair) if settings_file is not None else _check_home(ctx, repair, strict)
    if as_json:
        print_json(found.model_dump(mode="json") | {"healthy": found.is_healthy})
    else:
        _show(found)
    if not found.is_healthy:
        raise typer.Exit(1)


def _check_file(file: Path, repair: bool) -> Diagnosis:
    from pipeline.errors import BadSetting
    from pipeline.steps.production import check_settings_file

    if repair:
        raise BadSetting("--repair mends a home, not a settings file. Leave one of --repair and --settings out.")
    if not file.is_file():
        raise BadSetting(f"The settings file {file} does not exist. Name one, for example infra/production.toml.")
    return check_settings_file(file)


def _check_home(ctx: typer.Context, repair: bool, strict: bool) -> Diagnosis:
    from pipeline.errors import BadSetting
    from pipeline.partitions import utc_now
    from pipeline.stack.checks import check_stack
    from pipeline.stack.processes import running
    from pipeline.steps.doctor import check_home

    settings = settings_of(ctx)
    if repair and (alive := running(settings)):
        raise BadSetting(f"{', '.join(alive)} of this home are running. Stop them with `interest down`, then repair.")
    return check_home(settings, utc_now(), repair, strict).with_more(check_stack(settings))


def _show(found: Diagnosis) -> None:
    console.print(f"[bold]{escaped(found.subject)}[/bold]")
    for done in found.repaired:
        console.print(f"  [green]repaired[/] {escaped(done)}")
    for finding in found.findings:
        console.print(f"  {MARKS[finding.severity]} {escaped(finding.check)}: {escaped(finding.found)}")
        if finding.severity != "ok":
            console.print(f"      expected: {escaped(finding.expected)}")
            console.print(f"      do: {escaped(finding.remedy)}")
    errors = sum(finding.severity == "error" for finding in found.findings)
    warnings = sum(finding.severity == "warning" for finding in found.findings)
    verdict = "[green]healthy[/]" if found.is_healthy else "[bold red]not healthy[/]"
    console.print(f"{verdict}: {errors} errors, {warnings} warnings, {len(found.findings)} findings.")
