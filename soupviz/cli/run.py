"""Running the command line: results on stdout, progress on stderr, a user's mistake is one line and exit code 2."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import typer
from typer.main import get_command
from typer.models import CommandInfo

from soupviz.cli.answering import answering
from soupviz.cli.arguments import app
from soupviz.errors import Cancelled, SoupError

COMMANDS = ("converting", "cooking", "inspecting", "measuring", "opening", "reporting", "showing")
"""Importing these modules adds their commands."""

ALONE = {"dashboard": "showing"}
"""Commands that need nothing of the others' modules: they are there a second sooner without PyTorch."""

FIRST = ("demo", "dashboard", "new", "score", "soup", "menu", "report")
"""The order of the first commands in the help: that in which they are wanted."""

# typer brings its own copy of click, or the installed one: its errors are found through the class it exports.
CLICK_ERROR: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

INTERRUPTED = 130
"""The exit code of Ctrl-C by custom, and what typer makes of it."""


def application(command: str = "") -> typer.Typer:
    """All commands, or those that are loaded where one is named that needs no others."""
    for module in [ALONE[command]] if command in ALONE else COMMANDS:
        import_module(f"soupviz.cli.{module}")
    app.registered_commands.sort(key=lambda one: FIRST.index(name) if (name := _name(one)) in FIRST else len(FIRST))
    return app


def _name(command: CommandInfo) -> str:
    return str(command.name or getattr(command.callback, "__name__", ""))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one line on stderr and exit code 2."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        command: Any = get_command(application(given[0] if given else ""))
        for one in command.commands.values():
            one.callback = answering()(one.callback)  # which leaves help alone
        status = command.main(given or ["--help"], prog_name="soupviz", standalone_mode=False)
    except SoupError as error:
        _fail(str(error), 2)
    except OSError as error:  # a full disk, a folder that cannot be written, a name that is too long
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{error.strerror or error}. Choose another file or folder, or free some space.", 2)
    except CLICK_ERROR as error:
        _fail(error.format_message(), 2)
    except (Cancelled, KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    if status == INTERRUPTED:
        _fail("stopped; what was measured is kept, and the same command goes on from there.", INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> None:
    typer.echo(f"soupviz: {' '.join(message.split())}", err=True)
    sys.exit(status)
