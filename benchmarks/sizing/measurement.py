"""Loads a real gateway, and compares what it answers with what the simulation says.

The service times are measured beside each load: before and after it as many clients as there are servers send one image
after the other, so that every server is busy and nothing waits. They contain what busy servers cost each other: shared
caches and memory, the clock, and the CPU time of gateway and client. The simulation gets these times, and the times at
which the open loop's images were really sent; it predicts what follows from the queue.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count, cycle
from typing import NamedTuple

import httpx
import numpy as np

from benchmarks.sizing.loads import ClosedLoop, OpenLoop
from benchmarks.sizing.outcome import Outcome
from benchmarks.sizing.service_times import ServiceTimes
from benchmarks.sizing.simulation import simulate
from benchmarks.sizing.stack import Stack
from resnest_client.bench.error_categories import category_of
from resnest_client.bench.load import Bounds, LoadResult, closed_loop, open_loop
from resnest_core.errors import OverloadedError, RemoteError

BUSY = category_of(OverloadedError(""))
SIMULATIONS = 20  # of each load, with seeds of their own; their mean is the prediction


@dataclass(frozen=True)
class Load:
    """A load to measure: a closed loop of `clients`, or an open one with this share of the servers' capacity."""

    clients: int | None = None
    share: float | None = None

    def __str__(self) -> str:
        return f"{self.clients} clients" if self.clients else f"{self.share:g} of capacity"


class Stages(NamedTuple):
    """Seconds of an answered image: in the network, in the queue, on threads before and after, and altogether."""

    network: float
    queue: float
    before: float
    after: float
    latency: float


class Figures(NamedTuple):
    """What is compared."""

    images_per_second: float
    mean_seconds: float
    p95_seconds: float
    refused_share: float

    @classmethod
    def of(cls, outcome: Outcome) -> Figures:
        return cls(outcome.images_per_second, outcome.mean_seconds, outcome.percentile(95), outcome.refused_share)


class Comparison(NamedTuple):
    """A load of a round.

    Attributes:
        predicted: simulated with the service times measured beside the load.
        with_own_times: simulated with the load's own service times: differs from the measurement by the queue only.
        measured: what the gateway answered.
    """

    predicted: Figures
    with_own_times: Figures
    measured: Figures


class Gateway:
    """A gateway that answers images over HTTP.

    Args:
        url: its address.
        bodies: encoded images, sent in turn.
        stack: what it is: its servers, places and batches.
    """

    def __init__(self, url: str, bodies: Sequence[bytes], stack: Stack) -> None:
        self.stack = stack
        self.stages: list[Stages] = []
        self._bodies = cycle(bodies)
        self._lock = threading.Lock()
        # Without certificates to read, which takes as long as a small network; with a connection for each thread.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._client = httpx.Client(base_url=url, timeout=600, trust_env=False, verify=False, limits=limits)

    def close(self) -> None:
        self._client.close()

    def service(self, images: int) -> list[Stages]:
        """Return the stages of images of which nothing waits, while every server is busy."""
        self._load(lambda: closed_loop(self._ask, count(), self.stack.servers, Bounds(count=images)))
        return self.stages

    def closed(self, clients: int, images: int) -> Outcome:
        """Return what a closed loop gives."""
        return _outcome(self._load(lambda: closed_loop(self._ask, count(), clients, Bounds(count=images))), None)

    def open(self, rate: float, images: int, seed: int) -> tuple[Outcome, OpenLoop]:
        """Return what an open loop gives, and when its images were to be sent."""
        found = self._load(lambda: open_loop(self._ask, count(), rate, Bounds(count=images), seed=seed))
        starts = sorted(outcome.start for outcome in found.outcomes)
        return _outcome(found, starts[-1]), OpenLoop(np.array(starts))

    def _load(self, run: Callable[[], LoadResult]) -> LoadResult:
        self.stages = []
        found = run()
        for outcome in found.outcomes:
            if outcome.error and outcome.error[0] != BUSY:
                raise RemoteError(f"The gateway didn't answer an image, see its log: {outcome.error[1]}")
        return found

    def _ask(self, _: int) -> int:
        with self._lock:
            body = next(self._bodies)
        begun = time.perf_counter()
        response = self._client.post("/v1/detect", content=body)
        latency = time.perf_counter() - begun
        if response.status_code == 503:
            raise OverloadedError("It has no place.")
        response.raise_for_status()
        parts = (part.partition(";dur=") for part in response.headers["Server-Timing"].split(", "))
        stage = {name: float(milliseconds) / 1000 for name, _, milliseconds in parts}
        before, after = stage["decode"] + stage["resize"], stage["format"]
        with self._lock:
            self.stages.append(Stages(stage["network"], stage["queue"], before, after, latency))
        return 1


def _outcome(found: LoadResult, last_start: float | None) -> Outcome:
    answered = [outcome for outcome in found.outcomes if outcome.error is None]
    starts, ends = [outcome.start for outcome in answered], [outcome.end for outcome in answered]
    return Outcome.measured(starts, ends, len(found.outcomes) - len(answered), last_start)


def compare(gateway: Gateway, loads: Sequence[Load], rounds: int, images: int) -> dict[Load, list[Comparison]]:
    """Return each load's comparisons, one for each round; the loads take turns, with service times measured between.

    Args:
        gateway: what is loaded; it runs one image in a batch.
        loads: what with.
        rounds: how often.
        images: of each load; a quarter as many for each measurement of service times, and 4 for each server at least.
    """
    beside = max(images // 4, 4 * gateway.stack.servers)
    before = gateway.service(beside)  # warms up
    found: dict[Load, list[Comparison]] = {load: [] for load in loads}
    for number in range(rounds):
        before = gateway.service(beside)
        for load in loads:
            if load.clients:
                sent: OpenLoop | ClosedLoop = ClosedLoop(load.clients, images)
                measured = gateway.closed(load.clients, images)
            else:
                rate = (load.share or 1) * gateway.stack.servers / mean(stages.network for stages in before)
                measured, sent = gateway.open(rate, images, number)
            own = gateway.stages
            after = gateway.service(beside)
            service = [*before, *after]
            found[load].append(
                Comparison(
                    predict(gateway.stack, service, service, sent),
                    predict(gateway.stack, own, service, sent),
                    Figures.of(measured),
                )
            )
            before = after
    return found


def predict(stack: Stack, network: Sequence[Stages], host: Sequence[Stages], sent: OpenLoop | ClosedLoop) -> Figures:
    """Return what the simulation says of a load.

    Args:
        stack: what is simulated.
        network: images of which the network's times are taken.
        host: images for which nothing waited, of which the other times are taken.
        sent: the load.

    What is neither network nor a stage on the gateway's threads, such as HTTP and the event loop, holds the gateway's
    interpreter, so it counts as time of these threads: half before the network, half after it.
    """
    rest = mean(stages.latency - sum(stages[:4]) for stages in host)
    measured = replace(
        stack,
        decode_seconds=max(mean(stages.before for stages in host) + rest / 2, 0),
        encode_seconds=max(mean(stages.after for stages in host) + rest / 2, 0),
    )
    times = ServiceTimes({1: [stages.network for stages in network]})
    figures = [Figures.of(simulate(measured, times, sent, seed)) for seed in range(SIMULATIONS)]
    return Figures(*(statistics.fmean(values) for values in zip(*figures, strict=True)))


def mean(values: Iterable[float]) -> float:
    """Return the mean of numbers."""
    return statistics.fmean(values)
