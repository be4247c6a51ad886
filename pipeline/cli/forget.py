"""`interest forget`: takes a user out of everything, and proves it."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.edge import console, escaped, print_json, settings_of

VERIFY = "verify"


def forget(
    ctx: typer.Context,
    user: Annotated[
        str | None, typer.Argument(help="The user's id, as in the log; or the word `verify`.", metavar="USER|verify")
    ] = None,
    receipt: Annotated[
        str | None, typer.Argument(help="After `verify`: the receipt's id or file.", metavar="[RECEIPT]")
    ] = None,
    named: Annotated[
        str | None, typer.Option("--user", help="The user's id, where the user is called `verify`.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the receipt. Needed to erase.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether this is meant.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the receipt as one JSON object.")] = False,
) -> None:
    """Erase a user for good: log, tables and their old versions, online store, pages. It cannot be undone.

    Prints a receipt with the rows removed from each place. Exit code 3 where something is left. `interest forget
    verify RECEIPT` looks again, at any later time; it needs the receipt only.

    Example: interest forget 196 --reason "request of 2026-03-01" --yes

    Example: interest forget verify 3f2a9c0d1e4b5a67 --json
    """
    from pipeline.errors import ContractViolation, UserMistake
    from pipeline.partitions import utc_now
    from pipeline.steps.erasure import forget_user, verify_receipt

    if named is None and user == VERIFY:
        if receipt is None:
            raise UserMistake("Name a receipt: interest forget verify RECEIPT. A user called so: --user verify.")
        found = verify_receipt(receipt, settings_of(ctx), utc_now())
    else:
        user = named or user
        if user is None or receipt is not None or (named is not None and user != named):
            raise UserMistake("Name one user: interest forget USER --reason TEXT.")
        settings = settings_of(ctx)
        if not yes and not typer.confirm(f"Erase all that is known of {escaped(user)}? It cannot be undone", err=True):
            raise UserMistake("Nothing was erased.")
        found = forget_user(user, reason, settings, utc_now())
    if as_json:
        print_json(found)
    else:
        _show(found)
    if not found.is_verified:
        raise ContractViolation(
            f"{found.remaining:,} rows or files are left, see the receipt {found.receipt}. The user stays barred; "
            "run the same command again when nothing else writes, and look at what it names."
        )


def _show(found) -> None:
    console.print(f"[bold]receipt {found.receipt}[/bold]  asked for {found.asked_at:%Y-%m-%d %H:%M} UTC")
    for place in found.places:
        left = "verified" if place.remaining == 0 else f"{place.remaining} left"
        console.print(f"  {place.name}: {place.removed:,} removed, {left}")
    for version in found.trained_on:
        console.print(
            f"  {version.model} version {version.version} ({version.status}) has learned from the user: "
            f"unlearn by {version.unlearn_by:%Y-%m-%d}"
        )
    for name in found.training_sets:
        console.print(f"  training set {escaped(name)} was handed out before: its owner must remove the user from it")
    for name in found.unreadable:
        console.print(f"  {escaped(name)} cannot be read, so nobody knows whom it holds")
    if not found.is_searched_as_text:
        console.print("  pages and logs were not searched: the id is too short to be told from other words")
