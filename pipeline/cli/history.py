"""`interest history`: what was known of a user, and when."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.cli.edge import console, escaped, print_json, settings_of


def history(
    ctx: typer.Context,
    user: Annotated[str, typer.Argument(help="The user's id, as in the log.", metavar="USER")],
    view: Annotated[
        str | None, typer.Option(help="One view only, for example sequence_features; all when not given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all versions as one JSON object.")] = False,
) -> None:
    """Show what was known of a user and when: every version of the user's feature rows, also corrected and withdrawn.

    A row is true as of its event time, and was known from `created` on, until the next version of it was written or
    until it was withdrawn: a restatement left the user without it.
    Exit code 2 when there is no row of the user (the JSON object is printed all the same, with "status":
    "not_found") or no such view.

    Example: interest history 196 --view sequence_features
    """
    from pipeline.errors import NotFound
    from pipeline.steps.feature_history import feature_history

    found = feature_history(user, settings_of(ctx), view)
    if as_json:
        print_json(found)
    seen = None
    for row in found.rows if not as_json else ():
        if row.view != seen:
            console.print(f"[bold]{row.view}[/bold]")
            seen = row.view
        until = f"  (withdrawn {_moment(row.withdrawn)})" if row.withdrawn else "  (corrected later)"
        known = f"{_moment(row.event_timestamp)}, known from {_moment(row.created)}"
        console.print(f"  {known}{'' if row.is_current else until}")
        facts = [f"{name} {_shown(value)}" for name, value in row.values.items()]
        if row.model_version is not None:
            facts.append(
                f"model version {row.model_version}, cutoff {_moment(row.model_cutoff)}, space {escaped(row.space_id)}"
            )
        console.print(f"    {'; '.join(facts)}")
    if found.status == "not_found":
        raise NotFound(f"There is no feature row of user {user!r}{f' in {view}' if view else ''}.")


def _moment(moment: Any) -> str:
    return moment.isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        entries = value.get("last", ())
        if entries and hasattr(entries[-1], "isoformat"):
            entries = entries[-1:]
        last = ", ".join(_shown(part) for part in entries)
        return f"{value['length']}" + (f" (last {last})" if last else " numbers" if "last" not in value else "")
    if hasattr(value, "isoformat"):
        return _moment(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else escaped(value)
