"""
Where the command line meets the platform: settings come in, results and errors go out.

An `InterestError` becomes one line on standard error and its own exit code. Anything unforeseen becomes one
line too, which says how to see the traceback.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.errors import BadSetting, InterestError

if TYPE_CHECKING:
    from pipeline.settings import Settings

console = Console(highlight=False, soft_wrap=True)
"""Standard output for people. Pass what comes from data through `escaped`."""


@dataclass
class Given:
    """What stands on the command line for every command."""

    home: Path | None = None
    debug: bool = False


def settings_of(ctx: typer.Context) -> Settings:
    """The settings of this call. Raises BadSetting, also for a home folder that cannot be written."""
    from pipeline.observability import configure_logs
    from pipeline.settings import Settings

    given = ctx.find_root().obj or Given()
    settings = Settings.load(home=given.home)
    if given.debug or settings.log_json:
        configure_logs(settings.log_json, settings.log_level)
    else:
        configure_logs(level="WARNING")  # a person reads the command's own words
        warnings.showwarning = lambda *_args, **_options: None  # libraries reset filters as they are imported
    require_writable(settings.place(""))
    return settings


def require_writable(home: Path) -> None:
    """Raises BadSetting unless `home` is, or can become, a folder that this user may write."""
    standing = home
    while not standing.exists() and standing != standing.parent:
        standing = standing.parent
    if not standing.is_dir() or not os.access(standing, os.W_OK | os.X_OK):
        what = "is not a folder" if not standing.is_dir() else "cannot be written by this user"
        raise BadSetting(
            f"The home folder {home} cannot be used: {standing} {what}. Choose another with --home or INTEREST_HOME."
        )


def print_json(result: Any) -> None:
    """Print a result (pydantic model, dataclass, mapping) as one JSON object on standard output."""
    from pipeline.observability import facts_of

    sys.stdout.write(json.dumps(facts_of(result), allow_nan=False) + "\n")


def escaped(text: object) -> str:
    """Text from data, safe to print: no control characters, no console markup."""
    return escape(printable(text))


def printable(text: object) -> str:
    """`text` with every character that is not printable written as its escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


def one_line(error: BaseException) -> str:
    """An error as a person reads it: one line, nothing that a terminal would obey."""
    if isinstance(error, InterestError):
        return f"error: {printable(' '.join(str(error).split()))}"
    what = printable(" ".join(str(error).split()))[:500] or "no message"
    return f"error: {type(error).__name__}: {what}. This was not foreseen; --debug shows where it happened."


def exit_code_of(error: BaseException) -> int:
    return error.exit_code if isinstance(error, InterestError) else 1
