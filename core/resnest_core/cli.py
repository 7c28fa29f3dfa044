"""`resnest`: collects the commands that the packages register, and maps errors to exit codes."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

import typer
from rich.console import Console

from resnest_core.errors import ResNeStError
from resnest_core.threads import work_in_callers_thread

BAD_INPUT = 2  # exit code of a command that couldn't use what it was given


def build() -> typer.Typer:
    """Return the command line with every package's commands."""
    app = typer.Typer(
        name="resnest",
        help="mmdetection's ResNeSt detectors as a service.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for entry in sorted(entry_points(group="resnest.commands"), key=lambda entry: entry.name):
        entry.load()(app)
    return app


def main() -> None:
    """Run the command line: an error of ours is one sentence on stderr and exit code 2."""
    work_in_callers_thread()
    try:
        build()()
    except ResNeStError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"resnest: {error}", markup=False)
        sys.exit(BAD_INPUT)
