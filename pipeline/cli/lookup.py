"""`interest lookup`: what the platform serves of one user."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.cli.edge import console, escaped, print_json, settings_of

SHOWN = 8
"""Entries of a list that are shown to a person; `--json` gives all."""


def lookup(
    ctx: typer.Context,
    user: Annotated[str, typer.Argument(help="The user's id, as in the log.", metavar="USER")],
    service: Annotated[
        str, typer.Option(help="Feature service: support_profile_v1, ranking_v1 or training_v1.")
    ] = "support_profile_v1",
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as one JSON object.")] = False,
) -> None:
    """Show what is served of a user: values, event time, age, model version and space.

    A view is `stale` when its newest row, of any user, is older than the service promises; a stale answer is an
    answer. Exit code 0 when something is served; 2 when the user is not found (the JSON object is printed all the
    same, with "status": "not_found") or the service does not exist.

    Example: interest lookup 196 --service ranking_v1 --json
    """
    from pipeline.errors import NotFound
    from pipeline.partitions import utc_now
    from pipeline.serving.lookup import look_up
    from pipeline.serving.lookup_log import LookupLog

    settings = settings_of(ctx)
    answer = look_up(settings, user, service, utc_now())
    LookupLog.of(settings).flush()
    if as_json:
        print_json(answer)
    else:
        for name, view in answer.views.items():
            console.print(f"[bold]{name}[/bold]  {_heading(view)}")
            for feature, value in view.values.items():
                console.print(f"  {feature}: {_shown(value)}")
    if answer.status == "not_found":
        raise NotFound(f"User {user!r} is not served by {service}. `interest recommend` answers with what is popular.")


def _heading(view: Any) -> str:
    if view.status == "not_found":
        return "nothing served"
    if view.status == "withheld":
        return f"withheld: its row is not of the space of the rest of the answer, {escaped(view.withheld_for)}"
    parts = [
        f"as of {view.event_time.isoformat(sep=' ', timespec='seconds')}",
        f"{view.age_seconds / 86400:.1f} days old",
    ]
    if view.status == "stale":
        parts.append(
            f"stale: the newest row of the view is {view.view_age_seconds / 3600:,.0f} hours old, "
            f"promised are {view.promise_seconds / 3600:g}"
        )
    if view.is_expired:
        parts.append("expired")
    if view.model_version is not None:
        parts.append(f"model version {view.model_version}")
    if view.space_id is not None:
        parts.append(f"space {escaped(view.space_id)}")
    return ", ".join(parts)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        more = f", … {len(value) - SHOWN} more" if len(value) > SHOWN else ""
        return ", ".join(_shown(part) for part in value[:SHOWN]) + more
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else escaped(value)
