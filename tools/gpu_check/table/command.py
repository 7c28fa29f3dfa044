"""Measures each detector in each precision, each in a process of its own, and writes the results after each."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from resnest_core.errors import ParameterError
from resnest_core.published import PUBLISHED
from resnest_export.precision import Precision
from tools.gpu_check.machine import NO_GPU, gpu
from tools.gpu_check.table.results import MARK, Results, Row, markdown

ROOT = Path(__file__).parents[3]
PRECISIONS = ("fp16", "int8")
ROW_SECONDS = 7200
"""Limit for the export, the build of four profiles and the runs of one engine."""

Measure = Callable[[Row], Row]


class TableOptions(NamedTuple):
    """What is measured, and where the results are kept.

    Attributes:
        results: a JSON file; rows that it has aren't measured again.
        models: names of published detectors.
        precisions: of `resnest export --to tensorrt`.
        checkpoints: a folder of `<model>.pth`; None: the tests' untrained weights, which take the same time.
        seconds: for which each batch size is timed.
    """

    results: Path
    models: tuple[str, ...] = tuple(PUBLISHED)
    precisions: tuple[str, ...] = PRECISIONS
    checkpoints: Path | None = None
    seconds: float = 5


def run(options: TableOptions, measure: Measure | None = None) -> int:
    """Measure what the results lack, and print the table as Markdown; return 1 if a row has no figures.

    Raises:
        ParameterError: a model or precision doesn't exist, or the file of results is another file.
    """
    for given, known in ((options.models, tuple(PUBLISHED)), (options.precisions, [each.value for each in Precision])):
        for name in given:
            if name not in known:
                raise ParameterError(f"There is no {name!r} to measure: use {', '.join(known)}.")
    results = Results.read(options.results)
    found = gpu()
    for empty in asked(options, found.name if found else None):
        if results.has(empty):
            continue
        if found is None:
            print(f"{empty.model} in {empty.precision}: not run, {NO_GPU}", flush=True)
            continue
        print(f"Measuring {empty.model} in {empty.precision} …", flush=True)
        results.add((measure or in_own_process(options))(empty), options.results)
    if results.rows:
        print(markdown(results))
    return 0 if found and all(results.has(empty) for empty in asked(options, found.name)) else 1


def asked(options: TableOptions, gpu_name: str | None) -> Iterator[Row]:
    """Yield a row without figures for each engine."""
    try:
        library = f"TensorRT {version('tensorrt')}"
    except PackageNotFoundError:
        library = "TensorRT"
    for model in options.models:
        for precision in options.precisions:
            yield Row(gpu=gpu_name or "", library=library, model=model, precision=precision)


def in_own_process(options: TableOptions) -> Measure:
    """Return what measures a row in a process of its own: a crash, or one that hangs, is a row with an error."""

    def measure(empty: Row) -> Row:
        own: Sequence[str] = ()
        if options.checkpoints is not None:
            own = (str(options.checkpoints / f"{empty.model}.pth"),)
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "tools.gpu_check.table.measuring", empty.model_dump_json(), folder]
            try:
                ended = subprocess.run(
                    [*command, str(options.seconds), *own],
                    cwd=ROOT,
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=ROW_SECONDS,
                )
            except subprocess.TimeoutExpired:
                return empty.model_copy(update={"error": f"it took more than {ROW_SECONDS} s"})
        return heard(empty, ended.stdout, ended.stderr, ended.returncode)

    return measure


def heard(empty: Row, output: str, errors: str, code: int) -> Row:
    """Return the row that a process printed, or one that says how it ended."""
    for line in output.splitlines():
        if line.startswith(MARK):
            return Row.model_validate_json(line.removeprefix(MARK))
    last = (errors.strip().splitlines() or ["it said nothing"])[-1]
    return empty.model_copy(update={"error": f"its process ended with {code}: {last}"})
