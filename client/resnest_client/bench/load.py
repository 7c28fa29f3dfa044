"""Asks a detector for images: as fast as it answers (closed loop), or at a rate of its own (open loop).

In a closed loop, `concurrency` threads ask one image after the other. A server that stalls isn't asked meanwhile, so
that its stall is counted once for each of them ("coordinated omission"). In an open loop images come at random times
(Poisson arrivals) whatever the server does, and each one's latency counts from when it should have been sent: time
spent waiting behind a stall counts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from resnest_client.bench.error_categories import NOT_SENT, TIMEOUT, UNAVAILABLE, category_of

MOST_REQUESTS = 200_000  # of one run
MOST_IN_FLIGHT = 256  # of an open loop, sent or waiting for a thread; those beyond count as errors, "not sent"
DRAIN_SECONDS = 30.0  # after an open loop's last arrival; what hasn't been sent by then isn't sent
PAUSE_SECONDS = 0.1  # of a closed loop's thread after an error, so that a server that refuses isn't overrun
PATIENCE = {UNAVAILABLE: 20, TIMEOUT: 3}  # so many in a row, nothing answered between: the server is gone
PATIENCE_AT_END = 3  # so many are enough where they are a run's last: it didn't end with a server

Ask = Callable[[int], int]
"""Detects in the photograph of this index, and returns how many objects there are; called from several threads."""


@dataclass(frozen=True)
class Bounds:
    """When a run ends: after so many seconds, or so many requests."""

    seconds: float | None = None
    count: int | None = None


@dataclass(frozen=True)
class RequestOutcome:
    """Result of one request. Times are seconds since the run began; an error is its kind and its sentence."""

    photograph: int
    start: float
    """In an open loop: when it should have been sent."""
    end: float
    detections: int = 0
    error: tuple[str, str] | None = None


@dataclass
class LoadResult:
    """All that was asked for in `seconds`; `stopped` says why it ended early, None: it didn't."""

    outcomes: list[RequestOutcome] = field(default_factory=list)
    seconds: float = 0.0
    stopped: str | None = None


class _Record:
    """Gathers outcomes from all threads, and tells them when to stop."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._in_a_row = dict.fromkeys(PATIENCE, 0)
        self._outcomes: list[RequestOutcome] = []
        self.stop = threading.Event()
        self.stopped: str | None = None
        self._begin = time.perf_counter()

    def now(self) -> float:
        return time.perf_counter() - self._begin

    def ask(self, photograph: int, start: float) -> bool:
        """Make a request, and return whether it was answered."""
        try:
            detections, error = self._ask(photograph), None
        except Exception as problem:  # whatever a detector raises is a result here
            detections, error = 0, (category_of(problem), str(problem) or type(problem).__name__)
        self.add(RequestOutcome(photograph, start, self.now(), detections, error))
        return error is None

    def add(self, outcome: RequestOutcome) -> None:
        with self._lock:
            self._outcomes.append(outcome)
            if outcome.error is None:
                self._in_a_row = dict.fromkeys(PATIENCE, 0)
            elif (kind := outcome.error[0]) in PATIENCE:
                self._in_a_row[kind] += 1
                if self._in_a_row[kind] >= PATIENCE[kind] and self.stopped is None:
                    self.end(outcome.error[1])

    def end(self, reason: str) -> None:
        """Let no more requests be made."""
        self.stopped = reason
        self.stop.set()

    def asked(self, until: float = 0.0) -> LoadResult:
        """Return what there is now; an interrupted run may still add to its own list."""
        with self._lock:
            outcomes = list(self._outcomes)
            if self.stopped is None and max(self._in_a_row.values()) >= PATIENCE_AT_END:
                self.stopped = next(outcome.error[1] for outcome in reversed(outcomes) if outcome.error)
        return LoadResult(outcomes, max((until, *(outcome.end for outcome in outcomes))), self.stopped)


def closed_loop(
    ask: Ask, order: Iterator[int], concurrency: int, bounds: Bounds, interrupt: Callable[[], None] = lambda: None
) -> LoadResult:
    """Ask with `concurrency` threads, each for the next photograph of `order` once it has its answer.

    Each asks at least once, and what is asked at the end is waited for. Interrupted from the keyboard, the run keeps
    what there is, and calls `interrupt`, so that what is in flight needn't be waited for.
    """
    record = _Record(ask)
    photographs = islice(order, min(bounds.count or MOST_REQUESTS, MOST_REQUESTS))
    lock = threading.Lock()

    def work() -> None:
        while not record.stop.is_set():
            with lock:
                photograph = next(photographs, None)
            if photograph is None:
                return
            if not record.ask(photograph, record.now()):
                record.stop.wait(PAUSE_SECONDS)
            if bounds.seconds is not None and record.now() >= bounds.seconds:
                return

    with ThreadPoolExecutor(concurrency) as pool:
        try:
            for worker in [pool.submit(work) for _ in range(concurrency)]:
                worker.result()
        except KeyboardInterrupt:
            return _interrupted(record, interrupt)
    return record.asked()


def open_loop(
    ask: Ask,
    order: Iterator[int],
    rate: float,
    bounds: Bounds,
    *,
    seed: int = 0,
    workers: int = MOST_IN_FLIGHT,
    interrupt: Callable[[], None] = lambda: None,
) -> LoadResult:
    """Ask for `rate` photographs a second on average, at random times, the same ones for the same seed.

    Up to `workers` are in flight at a time and others wait, which is part of their latency. One that arrives where 256
    are sent or wait isn't sent, and neither is one that still waits 30 s after the last arrival: both are errors. For
    interrupts see `closed_loop`.
    """
    record = _Record(ask)
    sent: dict[Future[bool], tuple[int, float]] = {}
    pending: set[Future[bool]] = set()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for photograph, arrival in zip(order, _arrivals(rate, bounds, seed), strict=False):
                if record.stop.wait(max(arrival - record.now(), 0)):
                    break
                pending = {future for future in pending if not future.done()}
                if len(pending) >= MOST_IN_FLIGHT:
                    record.add(_not_sent(photograph, arrival, record.now()))
                    continue
                future = pool.submit(record.ask, photograph, arrival)
                sent[future] = photograph, arrival
                pending.add(future)
            _drain(pending, record)
        except KeyboardInterrupt:
            return _interrupted(record, interrupt, pending)
        for future in pending:
            if future.cancel():
                record.add(_not_sent(*sent[future], record.now()))
    return record.asked(0.0 if record.stopped else bounds.seconds or 0.0)


def _arrivals(rate: float, bounds: Bounds, seed: int) -> Iterator[float]:
    """Yield the seconds at which requests shall be sent; at least one of them."""
    generator = np.random.default_rng(seed)
    arrival, count = 0.0, 0
    while count < min(bounds.count or MOST_REQUESTS, MOST_REQUESTS):
        yield arrival
        count += 1
        arrival += generator.exponential(1 / rate)
        if bounds.seconds is not None and arrival >= bounds.seconds:
            return


def _drain(pending: set[Future[bool]], record: _Record) -> None:
    end = record.now() + DRAIN_SECONDS
    while pending and record.now() < end and not record.stop.is_set():
        pending -= wait(pending, timeout=0.05).done


def _not_sent(photograph: int, start: float, now: float) -> RequestOutcome:
    return RequestOutcome(
        photograph, start, now, error=(NOT_SENT, f"{MOST_IN_FLIGHT} images were sent or waiting already.")
    )


def _interrupted(
    record: _Record,
    interrupt: Callable[[], None],
    pending: set[Future[bool]] = frozenset(),  # type: ignore[assignment]
) -> LoadResult:
    """Return what there is, before what is in flight fails."""
    record.end("It was interrupted.")
    asked = record.asked()
    for future in pending:
        future.cancel()
    interrupt()
    return asked
