"""`resnest bench`."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from resnest_client.bench import all_models, options, report
from resnest_client.bench import compare as comparing
from resnest_client.bench.load import MOST_IN_FLIGHT
from resnest_client.bench.measured_detector import open_subject
from resnest_client.bench.photographs import read_photographs
from resnest_client.bench.plots import plot, require_matplotlib
from resnest_client.bench.profiling import command as profiling
from resnest_client.bench.profiling.request import ProfileRequest
from resnest_client.bench.results import Run, read_runs, write_runs
from resnest_client.bench.runs import Bench, Load, Measured, Plan
from resnest_client.bench.server_metrics import prometheus_parser
from resnest_client.detector_options import (
    ApiKeyOption,
    DetectorOptions,
    DeviceOption,
    ModelOption,
    RepositoryOption,
    RuntimeOption,
    UrlOption,
    is_grpc,
)
from resnest_core.detector import checked_threshold
from resnest_core.errors import ModelNotFoundError, ParameterError
from resnest_core.repository import find_repository, installed_models
from resnest_core.runtimes import RUNTIMES, preferred_runtime

FAILED = 1  # exit code if a run is incomplete or no request succeeded


@dataclass
class Files:
    """Writes results after each run, so that an interrupted command keeps its measurements."""

    output: Path | None
    markdown: Path | None
    before: list[Run] = field(default_factory=list)
    """Earlier runs of the file, with `--append`."""
    measured: list[Measured] = field(default_factory=list)

    @property
    def runs(self) -> list[Run]:
        return [each.run for each in self.measured]

    @property
    def first_round(self) -> int:
        return max((run.round for run in self.before), default=0) + 1

    def add(self, measured: Measured) -> None:
        self.measured.append(measured)
        if self.output:
            write_runs(self.output, [*self.before, *self.runs])

    def write_markdown(self, text: str) -> None:
        if self.markdown:
            self.markdown.write_text(text, encoding="utf-8")


def bench(
    images: Annotated[Path | None, typer.Option(help="Folder of photographs, with shapes like those in use.")] = None,
    url: UrlOption = None,
    model: ModelOption = None,
    runtime: RuntimeOption = None,
    device: DeviceOption = None,
    repository: RepositoryOption = None,
    api_key: ApiKeyOption = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the runtime; default: one per available CPU.")] = None,
    concurrency: Annotated[
        str | None, typer.Option(help="Closed loop: requests in flight, such as 1,4,16; default: 1.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option(help="Open loop: average images/s, sent at random times, such as 2,5.")
    ] = None,
    duration: Annotated[float | None, typer.Option(help=f"Seconds per run; default: {options.DURATION:g}.")] = None,
    count: Annotated[int | None, typer.Option(help="Images per run, instead of --duration.")] = None,
    warm_up: Annotated[
        str, typer.Option(help="Warm-up before each run: images, such as 5, or seconds, such as 2s.")
    ] = "2s",
    rounds: Annotated[int, typer.Option(help="Repetitions of the list of loads.")] = 1,
    masks: Annotated[bool, typer.Option(help="Request masks, if the model has them.")] = True,
    score_threshold: Annotated[float | None, typer.Option(help="0…1; default: the model's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the images' order and of an open loop's times.")] = 0,
    output: Annotated[Path | None, typer.Option(help="FILE.json for the results, written after each run.")] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Append to --output as further rounds, to alternate several commands.")
    ] = False,
    markdown: Annotated[Path | None, typer.Option(help="FILE.md for the table.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for plots, as PNG and SVG.")] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Only compare two files of --output; ratios are second ÷ first.")
    ] = None,
    every_model: Annotated[
        bool, typer.Option("--all", help="Measure every model of the repository, one image at a time.")
    ] = False,
    runtimes: Annotated[str | None, typer.Option(help="With --all: runtimes, such as onnxruntime,openvino.")] = None,
    by_stage: Annotated[
        bool, typer.Option("--profile", help="Only profile one image by stage, in this process; see --count.")
    ] = False,
) -> None:
    """Measure a detector's latency, throughput, CPU time and memory."""
    if compare is not None:
        _show_comparison(*compare)
        return
    if images is None:
        raise ParameterError("--images is missing: name a folder of photographs.")
    if runtimes is not None and not every_model:
        raise ParameterError("--runtimes is for --all: without it, use --runtime.")
    if every_model and any(each is not None for each in (url, model, runtime, concurrency, rate)):
        raise ParameterError(
            "--all measures each model in this machine's --runtimes, one image at a time: drop the rest."
        )
    detector_options = DetectorOptions(url, model, runtime, device, repository, api_key)
    loads = options.loads_of(concurrency, rate)
    bounds, warm = options.bounds_of(duration, count, loads), options.warm_up_of(warm_up)
    options.check_rounds(rounds)
    options.check_threads(threads, url)
    options.check_writable(output, markdown)
    if by_stage:
        others = (concurrency, rate, duration, runtimes, append or every_model or None)
        profiling.refuse(detector_options, any(each is not None for each in others))
        request = ProfileRequest(images, model, runtime, repository, threads, masks, score_threshold, count)
        profiling.run(request, output, markdown, plots, _stdout())
        return
    if append and output is None:
        raise ParameterError("--append is for --output: name the file to add to.")
    if plots:
        require_matplotlib()
    options.require_psutil()
    if url is not None and not is_grpc(url):
        prometheus_parser()  # before measuring
    files = Files(output, markdown, read_runs(output) if append and output and output.exists() else [])
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    in_flight = max(options.concurrencies_of(concurrency), default=1)
    plan = Plan(
        read_photographs(images, seed, console),
        bounds,
        warm,
        masks,
        score_threshold,
        seed,
        MOST_IN_FLIGHT if url else in_flight,
    )
    if every_model:
        _bench_all(_jobs(runtimes, device, threads, repository), plan, rounds, files, console)
    else:
        _bench_one(detector_options, threads, loads, plan, rounds, files, console)
    if plots:
        written = plot(files.measured, plots)
        console.print(f"Plots: {', '.join(map(str, written)) or 'none, nothing was answered'}.", markup=False)
    if any(not run.complete or not run.images for run in files.runs):
        raise typer.Exit(FAILED)


def _bench_one(
    detector_options: DetectorOptions,
    threads: int | None,
    loads: list[Load],
    plan: Plan,
    rounds: int,
    files: Files,
    console: Console,
) -> None:
    """Run each load in turn, round by round, until all are done or the server is lost."""
    in_flight = max(load.concurrency or (plan.workers if load.rate else 1) for load in loads)
    detector, subject = open_subject(detector_options, threads, in_flight, console)
    with closing(detector):
        checked_threshold(plan.score_threshold, detector.card)
        subject_bench = Bench(detector, subject, plan, detector_options.url)
        first = files.first_round
        planned = [(number, load) for number in range(first, first + rounds) for load in loads]
        for number, load in planned:
            with console.status(f"Run {len(files.measured) + 1} of {len(planned)}"):
                measured = subject_bench.run(load, number)
            files.add(measured)
            if not measured.run.complete:
                break
    report.show(files.runs, _stdout())
    files.write_markdown(report.markdown(files.runs))
    left = len(planned) - len(files.measured)
    for run in files.runs:
        if not run.complete:
            said = f"The run of {run.load} isn't complete, and {left} more were left out: {run.stopped}"
            console.print(said, markup=False)
        elif not run.images:
            reasons = "; ".join(f"{kind}: {text}" for kind, text in run.error_examples.items())
            console.print(f"The run of {run.load} got no answer to {run.requests} requests: {reasons}", markup=False)


def _jobs(
    runtimes: str | None, device: str | None, threads: int | None, repository: Path | None
) -> list[all_models.Job]:
    where = find_repository(repository)
    models = installed_models(where)
    if not models:
        raise ModelNotFoundError(f"There are no models in {where}: `resnest export NAME` makes one.")
    chosen = list(dict.fromkeys((runtimes or preferred_runtime(device).name).split(",")))
    if unknown := [name for name in chosen if name not in RUNTIMES]:
        raise ParameterError(f"There is no runtime {unknown[0]!r}: --runtimes lists some of {', '.join(RUNTIMES)}.")
    return [all_models.Job(name, runtime, device, threads, where) for name in models for runtime in chosen]


def _bench_all(jobs: list[all_models.Job], plan: Plan, rounds: int, files: Files, console: Console) -> None:
    """Measure all jobs and write the table; a failed model is reported, and the others are measured."""
    failures: list[all_models.Failure] = []
    interrupted = False
    first = files.first_round
    try:
        for result in all_models.measure_all(jobs, plan, range(first, first + rounds)):
            if isinstance(result, all_models.Failure):
                failures.append(result)
                console.print(f"{result.job.model} in {result.job.runtime} failed: {result.reason}", markup=False)
                continue
            files.add(result)
            run = result.run
            console.print(
                f"{run.subject.model} in {run.subject.where}, round {run.round}: {run.images} images.", markup=False
            )
    except KeyboardInterrupt:
        interrupted = True
        console.print("Interrupted: the table holds what was measured until now.")
    if files.measured:
        table = Table(*all_models.HEADERS, box=None, pad_edge=False)
        for cells in all_models.cells(files.runs):
            table.add_row(*cells)
        report.print_whole(table, _stdout())
    _stdout().print("\n".join(all_models.notes(files.runs, failures)), markup=False)
    files.write_markdown(all_models.markdown(files.runs, failures))
    if failures or interrupted:
        raise typer.Exit(FAILED)


def _show_comparison(first: Path, second: Path) -> None:
    table = Table(*comparing.HEADERS, title=f"{second} ÷ {first}", title_justify="left", box=None, pad_edge=False)
    for comparison in comparing.compare(read_runs(first), read_runs(second)):
        table.add_row(*comparing.cells(comparison))
    report.print_whole(table, _stdout())
    _stdout().print("Medians of the pairs' ratios, in brackets the least and the greatest.")


def _stdout() -> Console:
    return Console(file=sys.stdout, highlight=False, soft_wrap=True)
