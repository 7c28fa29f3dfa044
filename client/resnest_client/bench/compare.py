"""Compares two files of runs by ratios of paired rounds: interleaved rounds run under similar machine conditions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

from resnest_client.bench.results import Run
from resnest_core.errors import ParameterError

HEADERS = ("load", "pairs", "images/s", "p50", "p99", "CPU per image")
FIGURES: dict[str, Callable[[Run], float | None]] = {
    "images/s": lambda run: run.images_per_second,
    "p50": lambda run: run.latency("p50"),
    "p99": lambda run: run.latency("p99"),
    "CPU per image": lambda run: run.cpu_seconds_per_image,
}


class Ratio(NamedTuple):
    """Second ÷ first: median, minimum and maximum over the pairs."""

    median: float
    least: float
    greatest: float


class Comparison(NamedTuple):
    """The ratios of one load by metric; None if no pair has the metric."""

    load: str
    pairs: int
    ratios: dict[str, Ratio | None]


def compare(first: Sequence[Run], second: Sequence[Run]) -> list[Comparison]:
    """Return the ratios, second ÷ first, of the loads that both have; rounds are paired by their number.

    Runs are also matched by model and by runtime if a file has more than one of them. Incomplete runs are ignored.

    Raises:
        ParameterError: no run of one file matches a run of the other.
    """
    several = [
        what for what in (_model, _where) if max(len({what(run) for run in side}) for side in (first, second)) > 1
    ]

    def by_load(runs: Sequence[Run]) -> dict[tuple[object, ...], dict[int, Run]]:
        found: dict[tuple[object, ...], dict[int, Run]] = {}
        for run in runs:
            if run.complete:
                load = run.rate if run.mode == "open" else run.concurrency
                key = (*(what(run) for what in several), run.masks, run.mode, load)
                found.setdefault(key, {})[run.round] = run
        return found

    ours, theirs = by_load(first), by_load(second)
    comparisons = []
    for key, rounds in ours.items():
        pairs = [(rounds[number], theirs[key][number]) for number in sorted(rounds) if number in theirs.get(key, {})]
        if pairs:
            name = ", ".join([*(what(pairs[0][0]) for what in several), pairs[0][0].load])
            ratios = {figure: _ratio(pairs, read) for figure, read in FIGURES.items()}
            comparisons.append(Comparison(name, len(pairs), ratios))
    if not comparisons:
        raise ParameterError(
            "No complete run of one file matches one of the other: measure the same models with the same loads."
        )
    return comparisons


def cells(comparison: Comparison) -> list[str]:
    """Return a row of the table."""
    row = [comparison.load, str(comparison.pairs)]
    for ratio in comparison.ratios.values():
        if ratio is None:
            row.append("–")
        elif comparison.pairs == 1:
            row.append(f"{ratio.median:.3f}")
        else:
            row.append(f"{ratio.median:.3f} ({ratio.least:.3f}–{ratio.greatest:.3f})")
    return row


def _ratio(pairs: Sequence[tuple[Run, Run]], read: Callable[[Run], float | None]) -> Ratio | None:
    ratios = []
    for one, two in pairs:
        below, above = read(one), read(two)
        if below and above is not None:
            ratios.append(above / below)
    return Ratio(median(ratios), min(ratios), max(ratios)) if ratios else None


def _model(run: Run) -> str:
    return run.subject.model


def _where(run: Run) -> str:
    return run.subject.where
