"""Plots of runs, as PNG and SVG: latency distribution, and latency against throughput."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from resnest_client.bench.results import Run, same_loads
from resnest_client.bench.runs import Measured
from resnest_core.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg")
SIZE_INCHES = (8, 4.8)
MARKED = (50, 99)  # percent
# The colour-blind-safe palette of Okabe and Ito.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def plot(measured: Sequence[Measured], folder: Path) -> list[Path]:
    """Write both plots into a folder, as PNG and SVG, and return the files; none if no request succeeded.

    Raises:
        MissingExtraError: matplotlib isn't installed.
    """
    require_matplotlib()
    measured = [each for each in measured if each.latencies_ms]
    if not measured:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    written = _save(_latencies(measured), folder / "latency-cdf")
    return written + _save(_throughput([each.run for each in measured]), folder / "throughput-latency")


def require_matplotlib() -> None:
    """Check, before measuring, that matplotlib is installed.

    Raises:
        MissingExtraError: matplotlib isn't installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("matplotlib", "bench") from error


def _latencies(measured: Sequence[Measured]) -> Figure:
    figure, axes = _axes("Latency", "latency, ms", "images answered within it, %")
    runs = [each.run for each in measured]
    for colour, rounds in zip(_colours(), same_loads(runs), strict=False):
        latencies = np.sort(np.concatenate([each.latencies_ms for each in measured if each.run in rounds]))
        shares = np.arange(len(latencies) + 1) / len(latencies) * 100
        axes.step(
            [latencies[0], *latencies],
            shares,
            where="post",
            color=colour,
            linewidth=1.8,
            label=_legend_text(_name(rounds[0], runs)),
        )
        for percent in MARKED:
            axes.plot(np.percentile(latencies, percent), percent, "o", color=colour, markersize=5)
    axes.set_xscale("log")
    _plain_ticks(axes)
    axes.set_ylim(0, 103)
    _explain(axes, "dots: p50 and p99")
    return figure


def _throughput(runs: Sequence[Run]) -> Figure:
    figure, axes = _axes("Throughput and latency", "images/s answered", "latency, ms")
    curves: dict[str, list[list[Run]]] = {}
    for rounds in same_loads(runs):
        curves.setdefault(_curve(rounds[0], runs), []).append(rounds)
    for colour, (name, loads) in zip(_colours(), curves.items(), strict=False):
        points = [(median(run.images_per_second for run in rounds), rounds) for rounds in loads]
        points.sort(key=lambda point: point[0])
        rates = [rate for rate, _ in points]
        for percentile, line in (("p50", "-"), ("p99", "--")):
            values = [median(getattr(run.latency_ms, percentile) for run in rounds) for _, rounds in points]
            label = _legend_text(f"{name}{percentile}")
            inside = colour if percentile == "p50" else "white"
            axes.plot(
                rates,
                values,
                f"o{line}",
                color=colour,
                markerfacecolor=inside,
                linewidth=1.8,
                markersize=6,
                label=label,
            )
            if percentile == "p99":
                for rate, value, (_, rounds) in zip(rates, values, points, strict=True):
                    axes.annotate(
                        _load(rounds[0]), (rate, value), (0, 7), textcoords="offset points", ha="center", fontsize=8
                    )
    axes.set_xlim(0, axes.get_xlim()[1] * 1.08)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.12)
    _explain(axes, "numbers: requests in flight, or images/s sent")
    return figure


def _axes(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    """Return a figure that isn't registered with pyplot, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(True, which="major", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _explain(axes: Axes, note: str) -> None:
    axes.legend(frameon=False, loc="best", fontsize=9)
    axes.set_title(note, loc="right", fontsize=9, color="#555555")


def _plain_ticks(axes: Axes) -> None:
    """Label ticks with plain numbers such as 50 and 200: the range of a plot may contain no power of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _save(figure: Figure, path: Path) -> list[Path]:
    files = [path.with_suffix(suffix) for suffix in SUFFIXES]
    for file in files:
        figure.savefig(file, dpi=150)
    return files


def _colours() -> list[str]:
    return list(COLOURS) * 20  # colours repeat if there are more lines


def _name(run: Run, runs: Sequence[Run]) -> str:
    """Return a line's label, without the parts that are the same in all runs."""
    parts = _varying(run, runs)
    return ", ".join([*parts, run.load])


def _curve(run: Run, runs: Sequence[Run]) -> str:
    parts = _varying(run, runs)
    if len({each.mode for each in runs}) > 1:
        parts.append(f"{run.mode} loop")
    return "".join(f"{part}, " for part in parts)


def _legend_text(text: str) -> str:
    """Escape a text for matplotlib: `$` would begin a formula, and a leading `_` would hide the legend entry."""
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _varying(run: Run, runs: Sequence[Run]) -> list[str]:
    parts = []
    if len({each.subject.model for each in runs}) > 1:
        parts.append(run.subject.model)
    if len({each.subject.where for each in runs}) > 1:
        parts.append(run.subject.where)
    return parts


def _load(run: Run) -> str:
    return f"{run.concurrency}" if run.mode == "closed" else f"{run.rate:g}/s"
