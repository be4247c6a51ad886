"""`interest online`: the store that answers look-ups."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.edge import console, print_json, settings_of


def online() -> None:
    """The online store: refill it from the tables, compare it with them, replay what it answered.

    Example: interest online rebuild
    """


def rebuild(
    ctx: typer.Context,
    as_of: Annotated[
        str | None, typer.Option(help="Take rows up to this UTC day, YYYY-MM-DD; today when not given.", metavar="DAY")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Refill the online store from the tables, for example after it was lost. Safe to repeat; look-ups go on.

    Nothing that is served is replaced by something older: to go back to an earlier day, empty the store first.

    Example: interest online rebuild

    Example: interest online rebuild --as-of 1998-04-12 --json
    """
    from pipeline.partitions import Day, utc_now
    from pipeline.steps.online_rebuild import rebuild_online

    day = Day.parse(as_of) if as_of is not None else Day.of(utc_now())
    rebuilt = rebuild_online(day, settings_of(ctx))
    if as_json:
        return print_json(rebuilt)
    for view in rebuilt.views:
        standing = f", {view.refused:,} were served already" if view.refused else ""
        console.print(f"{view.view}: {view.accepted:,} of {view.rows:,} rows written{standing}, {view.seconds:.1f} s")
    console.print(f"{rebuilt.rows:,} rows as of {rebuilt.as_of} in {rebuilt.seconds:.1f} s")
    return None


def publish(
    ctx: typer.Context,
    view: Annotated[
        list[str] | None, typer.Option(help="Only this view; may be given more than once.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Offer the newest row of every entity to the online store, for example after a backfill, which pushes nothing.

    What is served already, or is newer, stays: the store refuses what is older than what it holds.

    Example: interest online publish

    Example: interest online publish --view interest_windows --json
    """
    from pipeline.partitions import Day, utc_now
    from pipeline.steps.online_rebuild import rebuild_online

    published = rebuild_online(Day.of(utc_now()), settings_of(ctx), view or ())
    if as_json:
        return print_json(published)
    for part in published.views:
        console.print(f"{part.view}: {part.accepted:,} of {part.rows:,} rows were newer than what was served")
    return None


def withdraw(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Take back rows that are served although a correction of the log has withdrawn them. Safe to repeat.

    The store itself never goes back to something older. This does, and only for users of whom something newer is
    served than the tables hold: they are served the newest row that still stands, or nothing where none does.

    Example: interest online withdraw
    """
    from pipeline.partitions import utc_now
    from pipeline.steps.online_withdrawals import withdraw_online

    withdrawn = withdraw_online(settings_of(ctx), utc_now())
    if as_json:
        return print_json(withdrawn)
    console.print(f"{withdrawn.users:,} users were served a row that had been withdrawn")
    for view, rows in withdrawn.served_again.items():
        console.print(f"  {view}: {rows:,} of them are served the newest row that stands")
    return None


def parity(
    ctx: typer.Context,
    day: Annotated[
        str | None, typer.Option(help="The day (UTC) whose sample is compared; yesterday when not given.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object, with the entities that differ.")
    ] = False,
) -> None:
    """Compare a sample of what is served with the newest rows of the tables, value by value.

    The sample is chosen by the hash of day and key. Exit code 3 when more differs than `parity.max_differing` allows.

    Example: interest online parity

    Example: interest online parity --day 1998-04-12 --json
    """
    from pipeline.errors import ContractViolation
    from pipeline.partitions import Day, utc_now
    from pipeline.steps.online_parity import measure_parity

    now = utc_now()
    compared = Day.parse(day) if day is not None else Day.of(now).plus(-1)
    checked = measure_parity(compared, settings_of(ctx), now)
    if as_json:
        print_json(checked)
    else:
        for view in checked.views:
            console.print(
                f"{view.view}: {view.equal:,} of {view.sampled:,} equal, {view.mismatched:,} mismatched, "
                f"{view.missing:,} missing, {view.extra:,} extra"
            )
            if view.largest_edit_distance is not None:
                console.print(f"  largest edit distance of a sequence: {view.largest_edit_distance:.2f}")
            if view.least_cosine is not None:
                console.print(f"  least cosine of a vector: {view.least_cosine:.4f}")
        console.print(f"the sample of {checked.day} compared in {checked.seconds:.1f} s")
    if checked.failures:
        raise ContractViolation(
            f"The online store differs from the tables: {'; '.join(checked.failures)}. "
            "`interest online rebuild` repairs what is missing or old."
        )


def replay(
    ctx: typer.Context,
    first: Annotated[
        str | None, typer.Option("--from", help="First day (UTC) of the look-ups; yesterday when not given.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last day (UTC); the first one when not given.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object, with the look-ups that differ.")
    ] = False,
) -> None:
    """Compare look-ups that were answered and logged with what the tables, at that time, say was right.

    Look-ups are kept where the setting `lookups.log` is on. Exit code 3 when more differs than `parity.max_differing`
    allows.

    Example: interest online replay

    Example: interest online replay --from 2026-03-01 --to 2026-03-07 --json
    """
    from pipeline.errors import ContractViolation
    from pipeline.partitions import Day, utc_now
    from pipeline.steps.lookup_replay import replay_lookups

    now = utc_now()
    begin = Day.parse(first) if first is not None else Day.of(now).plus(-1)
    replayed = replay_lookups(begin, Day.parse(last) if last is not None else begin, settings_of(ctx), now)
    if as_json:
        print_json(replayed)
    else:
        for one in replayed.answers:
            view = one.parity
            console.print(
                f"{one.day} {one.service} {view.view}: {view.equal:,} of {view.sampled:,} equal, "
                f"{view.mismatched:,} mismatched, {view.missing:,} missing, {view.extra:,} extra"
            )
        if not replayed.answers:
            console.print("no look-up of these days was logged; `lookups.log` switches that on")
    if replayed.failures:
        raise ContractViolation(f"Answers differ from the tables: {'; '.join(replayed.failures)}.")


SUBCOMMANDS = {"rebuild": rebuild, "publish": publish, "withdraw": withdraw, "parity": parity, "replay": replay}
