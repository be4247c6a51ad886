"""
The `interest` command. Every command lives in a file of its own and is imported when it is called.

    interest run                                 the whole job on a sample log
    interest load --events events.csv --mapping mapping.yaml
    interest backfill --from 2026-03-01 --to 2026-03-07
"""

from __future__ import annotations

import importlib
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup, TyperOption

from pipeline.cli.edge import Given, exit_code_of, one_line

COMMANDS = {
    "run": "run",
    "load": "load",
    "backfill": "backfill",
    "train": "train",
    "lookup": "lookup",
    "history": "history",
    "online": "online",
    "recommend": "recommend",
    "rollback": "rollback",
    "probes": "probes",
    "benchmark": "benchmark",
    "training-set": "training_set",
    "report": "report",
    "catalog": "catalog",
    "status": "status",
    "quarantine": "quarantine",
    "forget": "forget",
    "pseudonyms": "pseudonyms",
    "doctor": "doctor",
    "maintain": "maintain",
    "state-hash": "state_hash",
    "up": "up",
    "down": "down",
}
"""Each command and its module: there a function of the same name, or the functions of its `SUBCOMMANDS`.
Where the module says `ALSO_ALONE`, the function of the same name is a command beside them."""

HOME_HELP = "The folder that holds everything; default: INTEREST_HOME, else .interest in this folder."
DEBUG_HELP = "Show the traceback of an error."


class Commands(TyperGroup):
    """Imports a command when it is asked for, lets `--home` and `--debug` stand on either side of it, and
    turns an error into one line and an exit code."""

    def list_commands(self, ctx: typer.Context) -> list[str]:
        return [name for name in COMMANDS if self.get_command(ctx, name)]

    def get_command(self, ctx: typer.Context, cmd_name: str):
        if cmd_name not in COMMANDS:
            return None
        try:
            module = importlib.import_module(f"pipeline.cli.{COMMANDS[cmd_name]}")
        except ModuleNotFoundError as error:
            if error.name != f"pipeline.cli.{COMMANDS[cmd_name]}":
                raise
            return None
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        subcommands = getattr(module, "SUBCOMMANDS", {})
        for name, function in subcommands.items():
            single.command(name, no_args_is_help=False)(function)
        if subcommands:
            alone = getattr(module, "ALSO_ALONE", False)
            single.callback(no_args_is_help=not alone, invoke_without_command=alone)(getattr(module, cmd_name))
        else:
            single.command(cmd_name, no_args_is_help=False)(getattr(module, cmd_name.replace("-", "_")))
        command = typer.main.get_command(single)
        for part in (command, *getattr(command, "commands", {}).values()):
            part.params += _options_of_every_command()
        return command

    def invoke(self, ctx: typer.Context) -> object:
        try:
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is stopped again
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("error: interrupted.", err=True)
            raise typer.Exit(130) from None
        except Exception as error:
            if isinstance(error, typer.Exit | typer.Abort) or type(error).__module__.startswith("typer."):
                raise
            if getattr(ctx.obj, "debug", False):
                traceback.print_exc(file=sys.stderr)
            typer.echo(one_line(error), err=True)
            raise typer.Exit(exit_code_of(error)) from error


def _options_of_every_command() -> list[TyperOption]:
    """`--home` and `--debug` once more, for the right side of a command's name."""
    options = [option for option in typer.main.get_command(app).params if option.name in ("home", "debug")]
    for option in options:
        option.expose_value = False
        option.callback = _note
    return options


def _note(ctx: typer.Context, option: TyperOption, value: object) -> object:
    if value:
        setattr(ctx.find_root().obj, option.name, value)
    return value


app = typer.Typer(
    cls=Commands, add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def interest(
    ctx: typer.Context,
    home: Annotated[Path | None, typer.Option(help=HOME_HELP, metavar="FOLDER")] = None,
    debug: Annotated[bool, typer.Option("--debug", help=DEBUG_HELP)] = False,
) -> None:
    """Learns how each user's interests move over time and serves that as a feature.

    Example: interest run
    """
    ctx.obj = Given(home=home, debug=debug)


def main() -> None:
    app()
