"""Parses and checks the options of `resnest bench`."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from resnest_client.bench.load import MOST_IN_FLIGHT, MOST_REQUESTS, Bounds
from resnest_client.bench.runs import Load
from resnest_core.errors import MissingExtraError, ParameterError

DURATION = 10.0  # default duration of a run in seconds
MOST_SECONDS = 3600.0  # maximum duration of a run
MOST_ROUNDS = 1000

N = TypeVar("N", int, float)


def loads_of(concurrency: str | None, rate: str | None) -> list[Load]:
    """Return the loads listed by `--concurrency` and `--rate`; without both, a closed loop of concurrency 1.

    Raises:
        ParameterError: an option isn't a list of numbers, or a number is out of range.
    """
    if concurrency is None and rate is None:
        concurrency = "1"
    loads = [Load(concurrency=number) for number in concurrencies_of(concurrency)]
    for number in _numbers("--rate", rate, float):
        if not (math.isfinite(number) and number > 0):
            raise ParameterError(f"--rate must be more than 0 images/s, not {number:g}.")
        loads.append(Load(rate=number))
    return loads


def concurrencies_of(concurrency: str | None) -> list[int]:
    """Return the numbers listed by `--concurrency`.

    Raises:
        ParameterError: see `loads_of`.
    """
    numbers = _numbers("--concurrency", concurrency, int)
    for number in numbers:
        if not 1 <= number <= MOST_IN_FLIGHT:
            raise ParameterError(f"--concurrency must be from 1 to {MOST_IN_FLIGHT}, not {number}.")
    return numbers


def bounds_of(duration: float | None, count: int | None, loads: list[Load]) -> Bounds:
    """Return the bounds of a run.

    Raises:
        ParameterError: both are given, or one is out of range.
    """
    if duration is not None and count is not None:
        raise ParameterError("--duration and --count can't both say when a run ends: give one.")
    if count is not None:
        if not 1 <= count <= MOST_REQUESTS:
            raise ParameterError(f"--count must be from 1 to {MOST_REQUESTS}, not {count}.")
        return Bounds(count=count)
    seconds = DURATION if duration is None else duration
    if not 0 < seconds <= MOST_SECONDS:
        raise ParameterError(f"--duration must be more than 0 and at most {MOST_SECONDS:g} seconds, not {seconds:g}.")
    for load in loads:
        if load.rate is not None and load.rate * seconds > MOST_REQUESTS:
            raise ParameterError(
                f"{load.rate:g} images/s for {seconds:g} s are more than the {MOST_REQUESTS} requests that a run may "
                "have: lower --rate or --duration."
            )
    return Bounds(seconds=seconds)


def warm_up_of(text: str) -> Bounds:
    """Return the length of the warm-up: images, such as `5`, or seconds, such as `2s`.

    Raises:
        ParameterError: the text is neither, or out of range.
    """
    try:
        bounds = Bounds(seconds=float(text[:-1])) if text.endswith("s") else Bounds(count=int(text))
    except ValueError:
        raise ParameterError(
            f"--warm-up is a number of images, such as 5, or seconds, such as 2s, not {text}."
        ) from None
    if not 0 <= (bounds.count or 0) <= MOST_REQUESTS or not 0 <= (bounds.seconds or 0) <= MOST_SECONDS:
        raise ParameterError(f"--warm-up must be from 0 to {MOST_REQUESTS} images or {MOST_SECONDS:g}s, not {text}.")
    return bounds if bounds.count or bounds.seconds else Bounds()


def check_rounds(rounds: int) -> None:
    """Check the number of rounds.

    Raises:
        ParameterError: it is out of range.
    """
    if not 1 <= rounds <= MOST_ROUNDS:
        raise ParameterError(f"--rounds must be from 1 to {MOST_ROUNDS}, not {rounds}.")


def check_threads(threads: int | None, url: str | None) -> None:
    """Check the number of threads.

    Raises:
        ParameterError: it is less than 1, or given together with `--url`.
    """
    if threads is not None and url is not None:
        raise ParameterError("--threads can't be chosen with --url: the server has its own.")
    if threads is not None and threads < 1:
        raise ParameterError(f"--threads must be at least 1, not {threads}.")


def check_writable(*files: Path | None) -> None:
    """Check, before measuring, that files can be written.

    Raises:
        ParameterError: a file's folder doesn't exist, or the file is a folder.
    """
    for file in files:
        if file is not None and (file.is_dir() or not file.parent.is_dir()):
            raise ParameterError(f"{file} can't be written: name a file in a folder that is there.")


def require_psutil() -> None:
    """Check that psutil is installed.

    Raises:
        MissingExtraError: psutil isn't installed.
    """
    try:
        import psutil  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("psutil", "bench") from error


def _numbers(option: str, text: str | None, read: Callable[[str], N]) -> list[N]:
    if text is None:
        return []
    try:
        return [read(part) for part in text.split(",")]
    except ValueError:
        raise ParameterError(f"{option} is a number, or several with commas between, not {text}.") from None
