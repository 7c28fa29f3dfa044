"""Load generators: closed loop (each response triggers the next request) and open loop (fixed average rate).

In a closed loop, `concurrency` threads each send one request after the other. While a server stalls, no new requests
are sent, so a stall counts only once per thread ("coordinated omission"). In an open loop, requests arrive at random
times (Poisson process) independently of the server, and a latency counts from the intended time of sending: it includes
the time spent waiting behind a stall.
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

MOST_REQUESTS = 200_000  # maximum per run
MOST_IN_FLIGHT = 256  # maximum of an open loop, sent or waiting for a thread; further requests are errors, "not sent"
DRAIN_SECONDS = 30.0  # after an open loop's last arrival; requests still waiting then aren't sent
PAUSE_SECONDS = 0.1  # pause of a closed loop's thread after an error, to protect an overloaded server
PATIENCE = {UNAVAILABLE: 20, TIMEOUT: 3}  # consecutive errors after which the server counts as lost and the run ends
PATIENCE_AT_END = 3  # the same for errors at the end of a run

Ask = Callable[[int], int]
"""Detects objects in the photograph of this index and returns their number; called from several threads."""


@dataclass(frozen=True)
class Bounds:
    """End of a run: after `seconds`, or after `count` requests."""

    seconds: float | None = None
    count: int | None = None


@dataclass(frozen=True)
class RequestOutcome:
    """Result of one request. Times are seconds since the start of the run; an error is (category, message)."""

    photograph: int
    start: float
    """In an open loop: the intended time of sending."""
    end: float
    detections: int = 0
    error: tuple[str, str] | None = None


@dataclass
class LoadResult:
    """All requests of a run of `seconds`; `stopped` is the reason for an early end, None: there was none."""

    outcomes: list[RequestOutcome] = field(default_factory=list)
    seconds: float = 0.0
    stopped: str | None = None


class _Record:
    """Collects outcomes from all threads, and signals them to stop."""

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
        """Send a request; return whether it succeeded."""
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
        """Stop further requests."""
        self.stopped = reason
        self.stop.set()

    def asked(self, until: float = 0.0) -> LoadResult:
        """Return the outcomes so far, as a copy: threads of an interrupted run may still add some."""
        with self._lock:
            outcomes = list(self._outcomes)
            if self.stopped is None and max(self._in_a_row.values()) >= PATIENCE_AT_END:
                self.stopped = next(outcome.error[1] for outcome in reversed(outcomes) if outcome.error)
        return LoadResult(outcomes, max((until, *(outcome.end for outcome in outcomes))), self.stopped)


def closed_loop(
    ask: Ask, order: Iterator[int], concurrency: int, bounds: Bounds, interrupt: Callable[[], None] = lambda: None
) -> LoadResult:
    """Send requests from `concurrency` threads; each takes the next photograph of `order` after each response.

    Each thread sends at least one request, and the run waits for requests in flight at its end. On a keyboard interrupt
    the run keeps its outcomes and calls `interrupt`, which should abort the requests in flight.
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
    """Send `rate` requests per second on average, at random times that depend only on the seed.

    Up to `workers` requests are in flight at a time; others wait, which is part of their latency. A request isn't sent,
    and counts as an error, if 256 are in flight or waiting when it arrives, or if it still waits 30 s after the last
    arrival. For interrupts see `closed_loop`.
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
    """Yield the times, in seconds, at which requests are to be sent; at least one."""
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
    """Return the outcomes so far, taken before the requests in flight are aborted."""
    record.end("It was interrupted.")
    asked = record.asked()
    for future in pending:
        future.cancel()
    interrupt()
    return asked
