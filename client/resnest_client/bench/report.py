"""Tables of runs, for the terminal and as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

from resnest_client.bench.percentiles import Interval
from resnest_client.bench.results import Run, same_loads

HEADERS = (
    "load",
    "images/s",
    "p50 ms",
    "p90 ms",
    "p95 ms",
    "p99 ms",
    "mean ms",
    "CPU s per image",
    "client CPU s",
    "peak MiB, client",
    "server",
    "detections",
    "errors",
)
NONE = "–"
SHAPES = 4  # number of shapes listed


def rows(runs: Iterable[Run]) -> list[tuple[Run, list[str]]]:
    """Return each load's first run and table cells, which are medians if there are several rounds."""
    return [(rounds[0], _row(rounds)) for rounds in same_loads(runs)]


def show(runs: Sequence[Run], console: Console) -> None:
    """Print a table for each subject."""
    for subject, about in _by_subject(runs):
        table = Table(*HEADERS, title=Text(_title(subject)), title_justify="left", box=None, pad_edge=False)
        for cells in about:
            table.add_row(*cells)
        print_whole(table, console)
    console.print("\n".join(notes(runs)), markup=False)


def print_whole(table: Table, console: Console) -> None:
    """Print a table without wrapping rows, even in a narrow terminal or a pipe."""
    natural = console.measure(table, options=console.options.update(width=1000)).maximum
    console.width = max(console.width, natural)
    console.print(table)


def markdown(runs: Sequence[Run]) -> str:
    """Return the tables as Markdown, with the machine and the package versions."""
    parts = []
    for subject, about in _by_subject(runs):
        parts.append(f"### {_title(subject)}\n\n{markdown_table(HEADERS, about)}")
    return "\n\n".join([*parts, "\n\n".join(notes(runs)), about_machine(runs[0])]) + "\n" if runs else ""


def markdown_table(headers: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [headers, ["---"] * len(headers), *cells]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


class Measured(Protocol):
    """What a run and a profile say of where they were measured."""

    @property
    def machine(self) -> Mapping[str, Any]: ...
    @property
    def versions(self) -> Mapping[str, str]: ...
    @property
    def git_commit(self) -> str | None: ...
    @property
    def command(self) -> str: ...


def about_machine(run: Measured) -> str:
    """Return a description of the machine, and the command."""
    machine = run.machine
    packages = ", ".join(f"{name} {number}" for name, number in run.versions.items())
    commit = f", commit {run.git_commit}" if run.git_commit else ""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['os']}, Python "
        f"{machine['python']}; {packages}{commit}.\n\n```\n{run.command}\n```"
    )


def notes(runs: Sequence[Run]) -> list[str]:
    """Return the notes below the table."""
    found = []
    if any(run.round != runs[0].round for run in runs):
        found.append("Medians of the rounds, in brackets the least and the greatest.")
    elif runs:
        found.append("In brackets: the 95 % confidence interval, open where there were too few requests to say.")
    for rounds in same_loads(runs):
        shapes: Counter[str] = Counter()
        for run in rounds:
            shapes.update(run.padded_shapes)
        said = [f"images answered by padded shape {shapes_text(shapes)}"] if shapes else []
        stages = [run.server_stages_ms for run in rounds if run.server_stages_ms]
        if stages:
            means = {name: median(each[name] for each in stages if name in each) for name in stages[0]}
            said.append("the server's stages, mean ms: " + ", ".join(f"{name} {ms:.1f}" for name, ms in means.items()))
        gpus = [run.gpu for run in rounds if run.gpu]
        if gpus:
            percent, memory = median(gpu.utilization_percent for gpu in gpus), max(gpu.peak_memory_mib for gpu in gpus)
            said.append(f"GPU {percent:.0f} % used, {memory:.0f} MiB at most")
        examples = {kind: text for run in rounds for kind, text in run.error_examples.items()}
        said += [f"{kind}: {text.rstrip('.')}" for kind, text in examples.items()]
        said += [f"not complete: {run.stopped.rstrip('.')}" for run in rounds if run.stopped]
        if said:
            found.append(f"{rounds[0].subject.model}, {rounds[0].load}: {'; '.join(said)}.")
    return found


def shapes_text(shapes: Counter[str]) -> str:
    """Return the most common shapes with their numbers of images."""
    named = ", ".join(f"{shape} ({count})" for shape, count in shapes.most_common(SHAPES))
    more = len(shapes) - SHAPES
    return f"{named} and {more} more" if more > 0 else named


def spread(values: Sequence[float | None], digits: int = 3) -> str:
    """Return the median of the values that aren't None, and minimum and maximum if there are several."""
    there = [value for value in values if value is not None]
    if not there:
        return NONE
    text, least, greatest = (significant(of(there), digits) for of in (median, min, max))
    return text if least == greatest else f"{text} ({least}–{greatest})"


def significant(value: float, digits: int = 3) -> str:
    """Format a number with at least `digits` significant digits, without an exponent; integer digits are all kept."""
    if value == 0:
        return "0"
    magnitude = len(str(int(abs(value)))) if abs(value) >= 1 else int(f"{value:e}".partition("e")[2]) + 1
    return f"{value:.{max(digits - magnitude, 0)}f}"


def _row(rounds: Sequence[Run]) -> list[str]:
    def all_of(read: Callable[[Run], float | None]) -> str:
        return spread([read(run) for run in rounds])

    errors: Counter[str] = Counter()
    for run in rounds:
        errors.update(run.errors)
    first = rounds[0]
    return [
        first.load + ("" if all(run.complete for run in rounds) else ", not complete"),
        all_of(lambda run: run.images_per_second),
        *(_percentile(rounds, name) for name in ("p50", "p90", "p95", "p99")),
        all_of(lambda run: run.latency("mean")),
        all_of(lambda run: run.cpu_seconds_per_image),
        all_of(lambda run: run.client_cpu_seconds_per_image),
        f"{max(run.peak_memory_mib.client for run in rounds):.0f}",
        _most(run.peak_memory_mib.server for run in rounds),
        all_of(lambda run: run.detections_per_image),
        ", ".join(f"{count} {kind}" for kind, count in errors.most_common()) or "0",
    ]


def _percentile(rounds: Sequence[Run], name: str) -> str:
    latencies = [run.latency_ms for run in rounds if run.latency_ms]
    if len(rounds) == 1 and latencies:
        return f"{significant(getattr(latencies[0], name))} ({_interval(latencies[0].ci95[name])})"
    return spread([getattr(latency, name) for latency in latencies])


def _interval(ends: Interval) -> str:
    low, high = ends
    return f"{'' if low is None else significant(low)}–{'' if high is None else significant(high)}"


def _most(values: Iterable[float | None]) -> str:
    there = [value for value in values if value is not None]
    return f"{max(there):.0f}" if there else NONE


def _by_subject(runs: Iterable[Run]) -> list[tuple[Run, list[list[str]]]]:
    found: dict[str, tuple[Run, list[list[str]]]] = {}
    for run, cells in rows(runs):
        found.setdefault(run.subject.model_dump_json(), (run, []))[1].append(cells)
    return list(found.values())


def _title(run: Run) -> str:
    subject = run.subject
    parts = [subject.model, subject.where, subject.precision]
    parts += [subject.runtime] if subject.url and subject.runtime else []
    parts += [subject.device] if subject.device else []
    parts += [f"{subject.threads} threads"] if subject.threads else []
    return ", ".join([*parts, "with masks" if run.masks else "boxes only"])
