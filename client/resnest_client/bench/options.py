"""What the options of `resnest bench` mean, and what they may be."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from resnest_client.bench.load import MOST_IN_FLIGHT, MOST_REQUESTS, Bounds
from resnest_client.bench.runs import Load
from resnest_core.errors import MissingExtraError, ParameterError

DURATION = 10.0  # seconds of a run, where nothing is said
MOST_SECONDS = 3600.0  # of a run
MOST_ROUNDS = 1000

N = TypeVar("N", int, float)


def loads_of(concurrency: str | None, rate: str | None) -> list[Load]:
    """Return the loads that `--concurrency` and `--rate` list; one image after the other where neither is given.

    Raises:
        ParameterError: an option isn't a list of numbers, or a number is outside what it may be.
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
    """Return the numbers that `--concurrency` lists.

    Raises:
        ParameterError: see `loads_of`.
    """
    numbers = _numbers("--concurrency", concurrency, int)
    for number in numbers:
        if not 1 <= number <= MOST_IN_FLIGHT:
            raise ParameterError(f"--concurrency must be from 1 to {MOST_IN_FLIGHT}, not {number}.")
    return numbers


def bounds_of(duration: float | None, count: int | None, loads: list[Load]) -> Bounds:
    """Return when a run ends.

    Raises:
        ParameterError: both are given, or one is outside what it may be.
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
    """Return how long to warm up: `5` images, or `2s`.

    Raises:
        ParameterError: it is neither.
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
    """Refuse numbers of rounds that make no sense.

    Raises:
        ParameterError: there is none, or far too many.
    """
    if not 1 <= rounds <= MOST_ROUNDS:
        raise ParameterError(f"--rounds must be from 1 to {MOST_ROUNDS}, not {rounds}.")


def check_threads(threads: int | None, url: str | None) -> None:
    """Refuse a number of threads that can't be had.

    Raises:
        ParameterError: it is less than 1, or for a server.
    """
    if threads is not None and url is not None:
        raise ParameterError("--threads can't be chosen with --url: the server has its own.")
    if threads is not None and threads < 1:
        raise ParameterError(f"--threads must be at least 1, not {threads}.")


def check_writable(*files: Path | None) -> None:
    """Tell before anything is measured that a file can't be written.

    Raises:
        ParameterError: its folder isn't there, or it is a folder itself.
    """
    for file in files:
        if file is not None and (file.is_dir() or not file.parent.is_dir()):
            raise ParameterError(f"{file} can't be written: name a file in a folder that is there.")


def require_psutil() -> None:
    """Tell what to install.

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
