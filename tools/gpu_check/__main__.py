"""`tools/gpu_check.sh`: runs each check in a separate process and prints a table of results."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tools.gpu_check.machine import describe
from tools.gpu_check.outcome import Outcome, State

ROOT = Path(__file__).parents[2]
HERE = "tools.gpu_check"
COLORS = {State.PASSED: "green", State.FAILED: "red", State.NOT_RUN: "yellow"}


@dataclass(frozen=True)
class Check:
    """A module that says outcomes, its arguments, and how many seconds it may take."""

    module: str
    arguments: tuple[str, ...]
    seconds: float
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return " ".join((self.module.rpartition(".")[2], *self.arguments[:1]))

    def run(self) -> Iterator[Outcome]:
        """Run the check and yield what it says; a process that ends otherwise than by itself has failed."""
        command = [sys.executable, "-m", self.module, *self.arguments]
        with tempfile.TemporaryFile("w+") as said:
            try:
                ended = subprocess.run(
                    command,
                    cwd=ROOT,
                    env=os.environ | self.environment,
                    timeout=self.seconds,
                    stdout=said,
                    stderr=subprocess.PIPE,
                    text=True,
                    check=False,
                )
                trouble = f"it ended with {ended.returncode}: {_last_line(ended.stderr)}" if ended.returncode else ""
            except subprocess.TimeoutExpired:
                trouble = f"it took more than {self.seconds:.0f} s"
            said.seek(0)
            outcomes = [outcome for line in said if (outcome := Outcome.hear(line))]
        yield from outcomes
        if trouble or not outcomes:
            yield Outcome(self.title, State.FAILED, trouble or "it said nothing")


def checks(folder: Path, repository: Path | None, seconds: float) -> Sequence[Check]:
    """Return all checks, those that need no GPU first; engines are written into `folder`."""
    installed = () if repository is None else (str(repository),)
    return (
        Check(f"{HERE}.kernels", ("interpreter",), 120, {"TRITON_INTERPRET": "1"}),
        Check(f"{HERE}.assembled", (), 120),
        Check(f"{HERE}.engine", ("tensorrt-rtx", str(folder)), 240),
        Check(f"{HERE}.kernels", ("driver",), 120),
        Check(f"{HERE}.kernels", ("triton",), 120),
        Check(f"{HERE}.engine", ("tensorrt", str(folder)), 300),
        Check(f"{HERE}.speed", (str(seconds), str(folder), *installed), 300),
    )


def main() -> int:
    """Run the checks and print the table; return 1 if one failed."""
    parser = argparse.ArgumentParser(prog="tools/gpu_check.sh", description=__doc__)
    parser.add_argument("--repository", type=Path, help="Models whose engines are timed as well.")
    parser.add_argument("--seconds", type=float, default=5, help="For which each detector is timed.")
    parser.add_argument("--strict", action="store_true", help="Fail where something can't be run.")
    options = parser.parse_args()
    console = Console(highlight=False)
    begin = time.monotonic()
    outcomes = [describe()]
    with tempfile.TemporaryDirectory() as folder, console.status("Checking …") as status:
        for check in checks(Path(folder), options.repository, options.seconds):
            status.update(f"Checking: {check.title} …")
            outcomes.extend(check.run())
    rows = table(outcomes)
    # No wrapping, even when piped or in a narrow terminal.
    console.width = max(console.width, console.measure(rows, options=console.options.update(width=1000)).maximum)
    console.print(rows)
    counts = {state: sum(outcome.state is state for outcome in outcomes) for state in State}
    console.print(", ".join(f"{count} {state.value}" for state, count in counts.items()), end=" ")
    console.print(f"in {time.monotonic() - begin:.0f} s.")
    return 1 if counts[State.FAILED] or (options.strict and counts[State.NOT_RUN]) else 0


def table(outcomes: Sequence[Outcome]) -> Table:
    """Return a row for each outcome."""
    rows = Table("check", "", "", box=None, pad_edge=False)
    for outcome in outcomes:
        color = COLORS[outcome.state]
        rows.add_row(escape(outcome.check), f"[{color}]{outcome.state.value}[/{color}]", escape(outcome.detail))
    return rows


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"


if __name__ == "__main__":
    sys.exit(main())
