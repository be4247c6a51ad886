"""`interest recommend`: the best items for one user, or for a file of users."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.edge import console, escaped, print_json, printable, settings_of

if TYPE_CHECKING:
    from pipeline.serving.recommend import Recommendations

SHOWN_USERS = 10
"""Users that are shown to a person; `--json` and `--out` give all."""


def recommend(
    ctx: typer.Context,
    user: Annotated[str | None, typer.Argument(help="The user's id, as in the log.", metavar="USER")] = None,
    users: Annotated[
        Path | None, typer.Option(help="A text file with one user id a line, instead of USER.", metavar="FILE")
    ] = None,
    k: Annotated[int, typer.Option(help="Items for each user.")] = 10,
    as_of: Annotated[
        str | None, typer.Option(help="Answer as on this UTC day, YYYY-MM-DD; now when not given.", metavar="DAY")
    ] = None,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Also show what the user has had before.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as one JSON object.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Write user_id, item_id, rank, score, fallback to this .parquet file.", metavar="FILE"),
    ] = None,
) -> None:
    """Recommend items: what a user cares about over months, joined with what the user did last.

    A user whom nobody has seen gets what is popular, marked as a fallback; when that is true of every user asked
    for, the exit code is 2, and the answer is printed or written all the same.

    Example: interest recommend 196 --k 5

    Example: interest recommend --users users.txt --k 20 --as-of 1998-04-12 --out recommended.parquet
    """
    from pipeline.errors import NotFound
    from pipeline.partitions import Day, utc_now
    from pipeline.serving.recommend import recommend as recommend_to
    from pipeline.serving.recommend import titles_of

    asked, day = _asked(user, users), Day.parse(as_of) if as_of is not None else None
    if out is not None:
        _check_out(out)
    settings, now = settings_of(ctx), utc_now()
    answer = recommend_to(settings, asked, k, now, day, True if include_seen else None)
    if out is not None:
        draft = out.with_name(f".{out.name}.draft")
        answer.rows.write_parquet(draft)
        draft.replace(out)
    if as_json or out is None:
        titles = titles_of(settings, answer.rows["item_id"].unique().to_list())
        people = answer.by_user(titles, now)
        if as_json:
            facts = answer.model_dump(exclude={"rows", "event_times"}, mode="json")
            print_json(facts | {"users": [person.model_dump(mode="json") for person in people]})
        else:
            _show(answer, people)
    elif out is not None:
        console.print(f"{answer.rows.height} rows for {answer.found + answer.not_found} users in {escaped(out)}")
    if not answer.found:
        who = f"User {asked[0]!r} is not" if len(asked) == 1 else f"None of the {len(asked)} users is"
        raise NotFound(f"{who} in the log; what is shown is what is popular, as a fallback. Check the id.")
    if answer.not_found:
        typer.echo(f"{answer.not_found} of {len(asked)} users are not in the log: they got what is popular.", err=True)


def _asked(user: str | None, users: Path | None) -> list[str]:
    from pipeline.errors import UnreadableFile, UserMistake

    if (user is None) == (users is None):
        raise UserMistake("Name either one USER or a file of users with --users.")
    if users is None:
        return [str(user)]
    try:
        lines = users.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"The file of users {users} cannot be read: {error}.") from error
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise UnreadableFile(f"The file of users {users} holds no user id. Expected one a line.")
    return found


def _check_out(out: Path) -> None:
    from pipeline.errors import UserMistake

    if out.suffix != ".parquet":
        raise UserMistake(f"--out writes Parquet, so the file must end in .parquet; found {out.name!r}.")
    if not out.parent.is_dir():
        raise UserMistake(f"The folder {out.parent} of --out does not exist. Create it or choose another one.")


def _show(answer: Recommendations, people: list) -> None:
    from rich.table import Table

    for person in people[:SHOWN_USERS]:
        if person.fallback:
            source = "popular items (fallback)"
        else:
            source = f"release {answer.model_version} (interest {answer.interest_version}, space {answer.space_id})"
        known = "never seen"
        if person.event_time:
            moment = person.event_time.isoformat(sep=" ", timespec="seconds")
            known = f"as of {moment}, {person.age_seconds / 86400:.1f} days old"
        table = Table(title=f"{escaped(person.user_id)}: {known}; {source}", title_justify="left", box=None)
        for name, justify in (("rank", "right"), ("item", "left"), ("title", "left"), ("score", "right")):
            table.add_column(name, justify=justify)
        for item in person.items:
            table.add_row(str(item.rank), escaped(item.item_id), escaped(item.title), f"{item.score:.3f}")
        console.print(table)
    if len(people) > SHOWN_USERS:
        console.print(printable(f"{len(people) - SHOWN_USERS} more users; use --json or --out to get all of them."))
