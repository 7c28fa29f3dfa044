"""One benchmark run: warm-up, then a measured load."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from statistics import fmean
from typing import Any, NamedTuple

from resnest_client.bench.load import MOST_IN_FLIGHT, Bounds, LoadResult, RequestOutcome, closed_loop, open_loop
from resnest_client.bench.machine import command_line, describe_machine, git_commit, package_versions
from resnest_client.bench.meter import MIB, Meter
from resnest_client.bench.percentiles import confidence_interval, percentile
from resnest_client.bench.photographs import Photograph, seeded_order
from resnest_client.bench.results import PERCENTILES, Gpu, Latency, Memory, Run, Subject
from resnest_client.bench.server_metrics import ServerMetrics, find_process, mean_milliseconds, read_server_metrics
from resnest_core.detector import Detector


@dataclass(frozen=True)
class Load:
    """A closed loop with `concurrency` requests in flight, or an open loop of `rate` images per second."""

    concurrency: int | None = None
    rate: float | None = None


@dataclass(frozen=True)
class Plan:
    """Settings shared by all runs of a command."""

    photographs: Sequence[Photograph]
    bounds: Bounds
    warm_up: Bounds
    masks: bool = True
    score_threshold: float | None = None
    seed: int = 0
    workers: int = MOST_IN_FLIGHT
    """Maximum number of an open loop's requests in flight."""


class Measured(NamedTuple):
    """A run, and the latency of each successful request in milliseconds."""

    run: Run
    latencies_ms: list[float]


class Bench:
    """Runs loads against a detector; `url` is that of its server, None for one in this process."""

    def __init__(self, detector: Detector, subject: Subject, plan: Plan, url: str | None = None) -> None:
        self._detector = detector
        self._subject = subject
        self._plan = plan
        self._url = url
        self._process = find_process(url) if url else None
        self._shapes = [photograph.padded_size_hw(detector.card) for photograph in plan.photographs]
        self._about: dict[str, Any] = {
            "machine": describe_machine(),
            "versions": package_versions(),
            "git_commit": git_commit(),
            "command": command_line(),
        }

    def run(self, load: Load, number: int) -> Measured:
        """Warm up, then run a load once, as round `number`."""
        warmed = LoadResult()
        if self._plan.warm_up != Bounds():
            warmed = self._closed(load.concurrency or 1, self._plan.warm_up)
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        before = self._ask_server()
        with Meter(self._process, gpu=self._is_here) as meter:
            asked = _only_errors(warmed) if warmed.stopped else self._asked(load)
        answered = [outcome for outcome in asked.outcomes if outcome.error is None]
        latencies = [(outcome.end - outcome.start) * 1000 for outcome in answered]
        failed = [outcome.error for outcome in asked.outcomes if outcome.error is not None]
        after = self._ask_server()
        run = Run(
            subject=self._subject,
            mode="closed" if load.rate is None else "open",
            concurrency=self._in_flight(load),
            rate=load.rate,
            round=number,
            started=started,
            seconds=asked.seconds,
            complete=asked.stopped is None,
            stopped=asked.stopped,
            requests=len(asked.outcomes),
            images=len(answered),
            images_per_second=len(answered) / asked.seconds if asked.seconds else 0.0,
            latency_ms=latency_of(latencies),
            errors=dict(Counter(kind for kind, _ in failed)),
            error_examples=dict(reversed(failed)),
            **self._used(meter, before, after, len(answered)),
            gpu=Gpu(utilization_percent=meter.gpu[0], peak_memory_mib=meter.gpu[1]) if meter.gpu else None,
            server_stages_ms=mean_milliseconds(before.stages, after.stages) if before and after else None,
            detections_per_image=fmean(outcome.detections for outcome in answered) if answered else None,
            padded_shapes=self._shapes_of(answered),
            masks=self._plan.masks and self._detector.card.has_masks,
            score_threshold=self._plan.score_threshold,
            seed=self._plan.seed,
            warm_up_requests=len(warmed.outcomes),
            **self._about,
        )
        return Measured(run, latencies)

    @property
    def _is_here(self) -> bool:
        return self._url is None or self._process is not None

    def _used(
        self, meter: Meter, before: ServerMetrics | None, after: ServerMetrics | None, images: int
    ) -> dict[str, Any]:
        """Return CPU time and memory of the detecting processes and of the client."""
        server_cpu, memory, measured_by = meter.server_cpu, meter.server_memory, "process"
        if self._process is None:
            server_cpu, memory = _reported_use(before, after)
            measured_by = "metrics"
        cpu, client_cpu = (meter.client_cpu, None) if self._url is None else (server_cpu, meter.client_cpu)
        return {
            "cpu_seconds_per_image": None if cpu is None or not images else cpu / images,
            "client_cpu_seconds_per_image": None if client_cpu is None or not images else client_cpu / images,
            "server_measured_by": None if server_cpu is None else measured_by,
            "peak_memory_mib": Memory(client=meter.client_memory, server=memory),
        }

    def _in_flight(self, load: Load) -> int | None:
        if load.rate is None:
            return load.concurrency or 1
        return self._plan.workers if self._url is None else None

    def _shapes_of(self, answered: Sequence[RequestOutcome]) -> dict[str, int]:
        counts = Counter(self._shapes[outcome.photograph] for outcome in answered)
        return {f"{height}×{width}": count for (height, width), count in counts.most_common()}

    def _ask(self, photograph: int) -> int:
        plan = self._plan
        data = plan.photographs[photograph].data
        return len(self._detector.detect(data, score_threshold=plan.score_threshold, masks=plan.masks))

    def _asked(self, load: Load) -> LoadResult:
        if load.rate is None:
            return self._closed(load.concurrency or 1, self._plan.bounds)
        return open_loop(
            self._ask,
            self._order(),
            load.rate,
            self._plan.bounds,
            seed=self._plan.seed,
            workers=self._plan.workers,
            interrupt=self._detector.close,
        )

    def _closed(self, concurrency: int, bounds: Bounds) -> LoadResult:
        return closed_loop(self._ask, self._order(), concurrency, bounds, self._detector.close)

    def _order(self) -> Iterator[int]:
        return seeded_order(len(self._plan.photographs), self._plan.seed)

    def _ask_server(self) -> ServerMetrics | None:
        return read_server_metrics(self._url, self._detector.card.name) if self._url else None


def latency_of(latencies_ms: Sequence[float]) -> Latency | None:
    """Return the percentiles of latencies with their confidence intervals; None if there are no latencies."""
    if not latencies_ms:
        return None
    names = {f"p{percent}": percent for percent in PERCENTILES}
    return Latency(
        **{name: percentile(latencies_ms, percent) for name, percent in names.items()},
        mean=fmean(latencies_ms),
        ci95={name: confidence_interval(latencies_ms, percent) for name, percent in names.items()},
    )


def _only_errors(warmed: LoadResult) -> LoadResult:
    """Return the errors and the reason of a warm-up that ended early: its successful requests aren't measurements."""
    errors = [outcome for outcome in warmed.outcomes if outcome.error is not None]
    return LoadResult(errors, warmed.seconds, warmed.stopped)


def _reported_use(before: ServerMetrics | None, after: ServerMetrics | None) -> tuple[float | None, float | None]:
    """Return CPU seconds between two reports of a server, and the larger of their memory values in MiB."""
    if before is None or after is None or before.cpu_seconds is None or after.cpu_seconds is None:
        return None, None
    memory = max(before.memory_bytes or 0.0, after.memory_bytes or 0.0) / MIB
    return after.cpu_seconds - before.cpu_seconds, memory or None
