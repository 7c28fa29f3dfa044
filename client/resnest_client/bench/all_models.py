"""`resnest bench --all`: measures every model of a repository in each runtime, each in a separate process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console

from resnest_client.bench.measured_detector import open_subject
from resnest_client.bench.meter import lifetime_memory
from resnest_client.bench.report import NONE, about_machine, markdown_table, shapes_text, spread
from resnest_client.bench.results import Run, same_loads
from resnest_client.bench.runs import Bench, Load, Measured, Plan
from resnest_client.detector_options import DetectorOptions
from resnest_core.published import PUBLISHED

HEADERS = (
    "model",
    "box AP",
    "mask AP",
    "runtime",
    "images/s",
    "p50 ms",
    "CPU s per image",
    "peak memory, GiB",
    "detections per image",
    "padded shapes (images)",
)
OWN = "†"
OWN_NOTE = f"{OWN} not the published weights: speed depends on shapes and the number of detections, both printed."


@dataclass(frozen=True)
class Job:
    """One measurement: a model in a runtime."""

    model: str
    runtime: str
    device: str | None
    threads: int | None
    repository: Path


@dataclass(frozen=True)
class Failure:
    """Why a job could not be measured."""

    job: Job
    reason: str


def measure_all(jobs: Sequence[Job], plan: Plan, rounds: range) -> Iterator[Measured | Failure]:
    """Measure the jobs in turn, round by round, one image at a time; a failed job is skipped in later rounds."""
    failed: set[Job] = set()
    for number, job in product(rounds, jobs):
        if job in failed:
            continue
        measured = _in_own_process(job, plan, number)
        if isinstance(measured, Failure):
            failed.add(job)
        yield measured


def _in_own_process(job: Job, plan: Plan, number: int) -> Measured | Failure:
    """Measure in a new process, so that its peak memory is that of this model alone."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            measured = pool.submit(_measure, job, plan, number).result()
        except BrokenProcessPool:
            return Failure(job, "Its process was killed: perhaps the machine ran out of memory.")
    return Failure(job, measured) if isinstance(measured, str) else measured


def _measure(job: Job, plan: Plan, number: int) -> Measured | str:
    """Return the measurement, or the reason for a failure as text: not all exceptions can be pickled."""
    try:
        detector_options = DetectorOptions(
            model=job.model, runtime=job.runtime, device=job.device, repository=job.repository
        )
        detector, subject = open_subject(detector_options, job.threads, 1, Console(stderr=True))
        try:
            run, latencies = Bench(detector, subject, plan).run(Load(concurrency=1), number)
        finally:
            detector.close()
    except Exception as error:  # one model's failure doesn't stop the others
        return str(error) or type(error).__name__
    if not run.images:
        return next(iter(run.error_examples.values()), run.stopped or "No image was answered.")
    peak = lifetime_memory() or run.peak_memory_mib.client  # includes loading the model
    memory = run.peak_memory_mib.model_copy(update={"client": peak})
    return Measured(run.model_copy(update={"peak_memory_mib": memory}), latencies)


def is_published(run: Run) -> bool:
    """Return whether a run's weights are those of the published AP."""
    row = PUBLISHED.get(run.subject.model)
    return row is not None and row.is_checkpoint(run.subject.checkpoint_sha256)


def cells(runs: Sequence[Run]) -> list[list[str]]:
    """Return the rows of the table: published AP in percent, and medians of the measurements."""
    return [_row(rounds) for rounds in same_loads(runs)]


def markdown(runs: Sequence[Run], failures: Sequence[Failure]) -> str:
    """Return the table as Markdown, with a description of the machine."""
    parts = [markdown_table(HEADERS, cells(runs))] if runs else []
    parts += notes(runs, failures)
    return "\n\n".join([*parts, about_machine(runs[0])] if runs else parts) + "\n"


def notes(runs: Sequence[Run], failures: Sequence[Failure]) -> list[str]:
    """Return the notes below the table."""
    found = ["AP is the published weights' on COCO val2017. One image at a time, batch 1."]
    if len({run.round for run in runs}) > 1:
        found.append("Medians of interleaved rounds, in brackets the least and the greatest.")
    if any(not is_published(run) for run in runs):
        found.append(OWN_NOTE)
    found += [f"{failure.job.model} in {failure.job.runtime} failed: {failure.reason}" for failure in failures]
    return found


def _row(rounds: Sequence[Run]) -> list[str]:
    first = rounds[0]
    row = PUBLISHED.get(first.subject.model)
    shapes: Counter[str] = Counter()
    for run in rounds:
        shapes.update(run.padded_shapes)
    return [
        first.subject.model + ("" if is_published(first) else OWN),
        NONE if row is None else f"{row.box_ap}",
        NONE if row is None or row.mask_ap is None else f"{row.mask_ap}",
        first.subject.where,
        spread([run.images_per_second for run in rounds]),
        spread([run.latency("p50") for run in rounds]),
        spread([run.cpu_seconds_per_image for run in rounds]),
        f"{max(run.peak_memory_mib.client for run in rounds) / 1024:.2f}",
        spread([run.detections_per_image for run in rounds]),
        shapes_text(shapes),
    ]
