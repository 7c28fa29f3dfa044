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

from resnest_core.errors import ResNeStError
from resnest_core.published import PUBLISHED
from resnest_core.runtimes.tensorrt.manifest import PLAN
from tools.gpu_check.machine import describe
from tools.gpu_check.outcome import Outcome, State
from tools.gpu_check.table.command import PRECISIONS, TableOptions, run

ROOT = Path(__file__).parents[2]
HERE = "tools.gpu_check"
COLORS = {State.PASSED: "green", State.FAILED: "red", State.NOT_RUN: "yellow"}


@dataclass(frozen=True)
class Check:
    """A module that says outcomes, its arguments, and how many seconds it may take."""

    module: str
    arguments: tuple[str, ...]
    seconds: float
    """Its limit; only a process that hangs should reach it."""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return " ".join((self.module.rpartition(".")[2], *(each for each in self.arguments if "/" not in each)))

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


BUILD_SECONDS = 1200
"""For an engine of four profiles, each of which TensorRT tunes anew; no build of ours has been timed yet."""


def checks(folder: Path, repository: Path | None, seconds: float, triton: str | None = None) -> Sequence[Check]:
    """Return all checks, those that need no GPU first; engines are written into `folder`.

    Args:
        folder: empty.
        repository: a user's model repository, whose engines are checked too.
        seconds: for which each engine is timed.
        triton: gRPC address of a Triton Inference Server that serves that repository.
    """
    installed = () if repository is None else (str(repository),)
    served = (Check(f"{HERE}.triton_server", (triton, *installed), 600),) if triton else ()
    engines = sum(1 for _ in repository.glob(f"*/*/{PLAN}")) if repository else 0
    return (
        Check(f"{HERE}.kernels", ("interpreter",), 120, {"TRITON_INTERPRET": "1"}),
        Check(f"{HERE}.assembled", (), 120),
        Check(f"{HERE}.engine", ("tensorrt-rtx", str(folder)), 240),
        Check(f"{HERE}.kernels", ("driver",), 120),
        Check(f"{HERE}.kernels", ("triton",), 120),
        Check(f"{HERE}.pytorch_detector", (), 600),
        *(Check(f"{HERE}.engine", ("tensorrt", str(folder), each), BUILD_SECONDS) for each in ("fp32", "fp16")),
        # Loading an engine and a first run take most of a minute at worst.
        Check(f"{HERE}.speed", (str(seconds), str(folder), *installed), (2 + engines) * (seconds + 60)),
        *served,
    )


def main() -> int:
    """Run the checks and print the table; return 1 if one failed."""
    parser = argparse.ArgumentParser(prog="tools/gpu_check.sh", description=__doc__)
    parser.add_argument("--repository", type=Path, help="Models whose engines are timed as well.")
    parser.add_argument("--seconds", type=float, default=5, help="For which each detector is timed.")
    parser.add_argument("--strict", action="store_true", help="Fail where something can't be run.")
    parser.add_argument(
        "--triton",
        metavar="HOST:PORT",
        help="gRPC address of a Triton that serves --repository: checks whether CUDA graphs return stale answers.",
    )
    table_options = parser.add_argument_group("instead of the checks, a table of the detectors' engines")
    table_options.add_argument("--table", metavar="FILE", type=Path, help="JSON file of results; what it has is kept.")
    table_options.add_argument("--models", nargs="+", default=list(PUBLISHED), help="Default: all eight.")
    table_options.add_argument("--precisions", nargs="+", default=list(PRECISIONS), help="Also fp32, bf16 and fp8.")
    table_options.add_argument("--checkpoints", type=Path, help="Folder of <model>.pth; default: untrained weights.")
    options = parser.parse_args()
    if options.table:
        return measure_table(options)
    if options.triton and options.repository is None:
        parser.error("--triton needs --repository, the one that it serves.")
    console = Console(highlight=False)
    begin = time.monotonic()
    outcomes = [describe()]
    with tempfile.TemporaryDirectory() as folder, console.status("Checking …") as status:
        for check in checks(Path(folder), options.repository, options.seconds, options.triton):
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


def measure_table(options: argparse.Namespace) -> int:
    """Measure the table of `--table`; return 1 if a row has no figures."""
    models, precisions = tuple(options.models), tuple(options.precisions)
    try:
        return run(TableOptions(options.table, models, precisions, options.checkpoints, options.seconds))
    except ResNeStError as error:
        print(error, file=sys.stderr)
        return 1


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
