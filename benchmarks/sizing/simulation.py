"""Simulates a stack under a load, event by event, with SimPy.

An image is refused if its gateway's places are taken. Otherwise it is decoded on one of the gateway's threads, waits
for a server, runs there in a batch, and is encoded on one of these threads. Everything random follows from the seed,
and each image brings its own random numbers: stacks that are compared get the same images.
"""

from __future__ import annotations

import heapq
import random
from bisect import bisect
from collections.abc import Generator
from dataclasses import dataclass, field
from itertools import accumulate, count
from typing import Any

import numpy as np
import simpy

from benchmarks.sizing.batch_rules import rule
from benchmarks.sizing.loads import ClosedLoop, OpenLoop
from benchmarks.sizing.outcome import Outcome
from benchmarks.sizing.service_times import ServiceTimes
from benchmarks.sizing.stack import Balancer, Stack

Process = Generator[simpy.Event, Any, Any]

PAUSE_SECONDS = 0.1  # of a closed loop's client that was refused, as in `resnest bench`


def simulate(stack: Stack, service: ServiceTimes, load: OpenLoop | ClosedLoop, seed: int = 0) -> Outcome:
    """Return what a load gives; every image is answered or refused."""
    return _Simulation(stack, service, load, seed).run()


class _Level:
    """A number that changes, and its integral over time, `area`."""

    def __init__(self, environment: simpy.Environment) -> None:
        self._environment = environment
        self._value, self._area, self._since = 0, 0.0, 0.0

    def add(self, change: int) -> None:
        self._area = self.area()
        self._since = self._environment.now
        self._value += change

    def area(self) -> float:
        return self._area + self._value * (self._environment.now - self._since)


@dataclass(eq=False)
class _Image:
    """An image: its random number, its padded shape, when it was queued, and the event that its network has run."""

    draw: float
    shape: int
    found: simpy.Event
    queued: float = 0.0


@dataclass
class _Totals:
    """What all gateways count together."""

    queued: _Level
    busy: _Level
    batches: list[int] = field(default_factory=list)


class _Gateway:
    """A gateway with its queue and servers."""

    def __init__(self, environment: simpy.Environment, stack: Stack, service: ServiceTimes, totals: _Totals) -> None:
        self.in_flight = 0
        self._environment = environment
        self._stack = stack
        self._service = service
        self._totals = totals
        self._threads_free = [0.0] * stack.host_threads  # a heap: when each has done what it was given
        self._rule = rule(stack.batching)
        self._queue: list[_Image] = []
        self._free = stack.servers
        self._change = environment.event()
        environment.process(self._dispatch())

    def answer(self, image: _Image) -> Process:
        """Answer an image that has a place."""
        stack = self._stack
        if stack.decode_seconds:
            yield self._on_thread(stack.decode_seconds)
        image.queued = self._environment.now
        self._queue.append(image)
        self._totals.queued.add(1)
        self._changed()
        yield image.found
        if stack.encode_seconds:
            yield self._on_thread(stack.encode_seconds)

    def _on_thread(self, seconds: float) -> simpy.Event:
        """Give the thread that is free first some work; the event is its end."""
        now = self._environment.now
        end = max(self._threads_free[0], now) + seconds
        heapq.heapreplace(self._threads_free, end)
        return self._environment.timeout(end - now)

    def _changed(self) -> None:
        if not self._change.triggered:
            self._change.succeed()

    def _dispatch(self) -> Process:
        """Run batches, for as long as there are images."""
        environment, stack = self._environment, self._stack
        while True:
            wake = self._change = environment.event()
            while self._queue and self._free:
                oldest = self._queue[0].queued
                batch = self._rule(self._queue, stack.max_batch, environment.now - oldest, stack.max_wait)
                if not batch:
                    wake = wake | environment.timeout(max(oldest + stack.max_wait - environment.now, 0))
                    break
                for image in batch:
                    self._queue.remove(image)
                self._free -= 1
                environment.process(self._run(batch))
            yield wake

    def _run(self, batch: list[_Image]) -> Process:
        totals = self._totals
        totals.queued.add(-len(batch))
        totals.busy.add(1)
        totals.batches.append(len(batch))
        yield self._environment.timeout(self._service.seconds(len(batch), batch[0].draw))
        totals.busy.add(-1)
        for image in batch:
            image.found.succeed()
        self._free += 1
        self._changed()


class _Balancing:
    """Chooses gateways."""

    def __init__(self, gateways: list[_Gateway], balancer: Balancer) -> None:
        self._gateways = gateways
        self._balancer = balancer
        self._number = count()
        self._by_load = [(0, next(self._number), gateway) for gateway in gateways]  # a heap; some rows are outdated

    def choose(self, draw: float) -> _Gateway:
        """Return the gateway of an image."""
        gateways = self._gateways
        if self._balancer is Balancer.RANDOM:
            return gateways[int(draw * len(gateways))]
        if self._balancer is Balancer.ROUND_ROBIN:
            return gateways[next(self._number) % len(gateways)]
        while self._by_load[0][0] != self._by_load[0][2].in_flight:
            heapq.heappop(self._by_load)
        return self._by_load[0][2]

    def noted(self, gateway: _Gateway) -> None:
        """Note that the images in flight of a gateway have changed."""
        if self._balancer is Balancer.LEAST:
            heapq.heappush(self._by_load, (gateway.in_flight, next(self._number), gateway))


class _Simulation:
    """One run."""

    def __init__(self, stack: Stack, service: ServiceTimes, load: OpenLoop | ClosedLoop, seed: int) -> None:
        self._environment = environment = simpy.Environment()
        self._stack, self._load = stack, load
        self._totals = _Totals(_Level(environment), _Level(environment))
        self._gateways = [_Gateway(environment, stack, service, self._totals) for _ in range(stack.gateways)]
        self._balancing = _Balancing(self._gateways, stack.balancer)
        self._random = random.Random(seed)
        self._shapes = [each / sum(stack.shapes) for each in accumulate(stack.shapes)][:-1]
        self._sent = 0
        self._starts: list[float] = []
        self._ends: list[float] = []
        self._refused = 0
        self._begin = self._end = (0.0, 0.0, 0.0)

    def run(self) -> Outcome:
        load = self._load
        if isinstance(load, OpenLoop):
            self._environment.process(self._arrivals(load))
        else:
            for _ in range(min(load.clients, load.images)):
                self._environment.process(self._client(load))
        self._environment.run()
        begin, end = self._begin, self._end
        seconds = max(end[0] - begin[0], 1e-12)
        servers = self._stack.gateways * self._stack.servers
        return Outcome(
            np.array(self._starts),
            np.array(self._ends),
            self._refused,
            begin[0],
            begin[0] + seconds,
            utilisation=(end[1] - begin[1]) / seconds / servers,
            queue_images=(end[2] - begin[2]) / seconds,
            batch_images=float(np.mean(self._totals.batches)) if self._totals.batches else float("nan"),
        )

    def _readings(self) -> tuple[float, float, float]:
        """Return the time, the seconds that servers have been busy, and those that images have waited."""
        return self._environment.now, self._totals.busy.area(), self._totals.queued.area()

    def _arrivals(self, load: OpenLoop) -> Process:
        for time in load.times:
            yield self._environment.timeout(max(float(time) - self._environment.now, 0))
            self._environment.process(self._request(load.warm_up))
        self._end = self._readings()

    def _client(self, load: ClosedLoop) -> Process:
        while self._sent < load.images:
            if not (yield from self._request(load.warm_up)):
                yield self._environment.timeout(PAUSE_SECONDS)
            self._end = self._readings()

    def _request(self, warm_up: int) -> Process:
        """Send an image; the process's value is whether it was answered."""
        number, self._sent = self._sent, self._sent + 1
        if number == warm_up:
            self._begin = self._readings()
        start = self._environment.now
        chosen, drawn = self._random.random(), self._random.random()
        shape = bisect(self._shapes, self._random.random())
        gateway = self._balancing.choose(chosen)
        if gateway.in_flight >= self._stack.max_queue:
            self._refused += number >= warm_up
            return False
        gateway.in_flight += 1
        self._balancing.noted(gateway)
        yield from gateway.answer(_Image(drawn, shape, self._environment.event()))
        gateway.in_flight -= 1
        self._balancing.noted(gateway)
        self._starts.append(start)
        self._ends.append(self._environment.now)
        return True
