"""Closed-loop and open-loop load, against detectors with known latencies."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections import Counter

import numpy as np
import pytest

from resnest_client.bench import load
from resnest_client.bench.load import Bounds, LoadResult, RequestOutcome, closed_loop, open_loop
from resnest_core.errors import NotAnImageError, RuntimeUnavailableError


class Detector:
    """Takes `seconds` for each image, one image at a time; `stall` for the one of this number."""

    def __init__(self, seconds: float = 0.0, *, stalled: int = -1, stall: float = 0.5) -> None:
        self.seconds, self.stalled, self.stall = seconds, stalled, stall
        self.asked: list[int] = []
        self.in_flight = self.most = 0
        self._one = threading.Lock()
        self._count = threading.Lock()

    def __call__(self, photograph: int) -> int:
        with self._count:
            number = len(self.asked)
            self.asked.append(photograph)
            self.in_flight += 1
            self.most = max(self.most, self.in_flight)
        with self._one:
            time.sleep(self.stall if number == self.stalled else self.seconds)
        with self._count:
            self.in_flight -= 1
        return 3


def failing(_: int) -> int:
    raise NotAnImageError("This is no image.")


def gone(_: int) -> int:
    raise RuntimeUnavailableError("It can't be reached.") from ConnectionRefusedError()


def latencies(asked: LoadResult) -> list[float]:
    return sorted(outcome.end - outcome.start for outcome in asked.outcomes if outcome.error is None)


def kinds(asked: LoadResult) -> Counter[str]:
    return Counter(outcome.error[0] for outcome in asked.outcomes if outcome.error)


def test_a_closed_loop_asks_as_often_as_it_is_told() -> None:
    detector = Detector(0.001)
    asked = closed_loop(detector, itertools.cycle([5, 7]), 3, Bounds(count=31))
    assert asked.stopped is None
    assert Counter(detector.asked) == {5: 16, 7: 15}
    assert detector.most == 3
    assert [(outcome.detections, outcome.error) for outcome in asked.outcomes] == [(3, None)] * 31


def test_a_closed_loop_ends_in_time_and_waits_for_what_is_in_flight() -> None:
    asked = closed_loop(Detector(0.05), itertools.repeat(0), 1, Bounds(seconds=0.3))
    assert 1 < len(asked.outcomes) <= 6
    assert 0.3 <= asked.seconds < 2


def test_each_thread_asks_at_least_once() -> None:
    assert len(closed_loop(Detector(0.05), itertools.repeat(0), 4, Bounds(seconds=0.001)).outcomes) == 4


def test_latencies_are_the_detectors() -> None:
    times = latencies(closed_loop(Detector(0.02), itertools.repeat(0), 1, Bounds(count=20)))
    assert times[0] >= 0.02 and np.median(times) < 0.1


def test_a_stall_is_one_slow_request_of_a_closed_loop_but_many_of_an_open_one() -> None:
    closed = latencies(closed_loop(Detector(0.002, stalled=5), itertools.repeat(0), 1, Bounds(count=60)))
    assert sum(seconds > 0.4 for seconds in closed) == 1
    opened = latencies(open_loop(Detector(0.002, stalled=5), itertools.repeat(0), 60, Bounds(count=60)))
    # About 30 arrive in half a second; those after it wait for what is left of it.
    assert np.percentile(opened, 99) > 0.45
    assert sum(seconds > 0.1 for seconds in opened) > 12


def test_latency_counts_from_the_intended_time_where_threads_are_few() -> None:
    # 20 arrive at once, one thread takes 20 ms each: the last has waited for all others.
    times = latencies(open_loop(Detector(0.02), itertools.repeat(0), 1e6, Bounds(count=20), workers=1))
    assert times[-1] > 0.39
    assert times[10] > 0.19


def test_arrivals_are_the_same_for_the_same_seed_and_come_at_the_rate() -> None:
    def arrivals(seed: int) -> list[float]:
        return list(load._arrivals(50, Bounds(seconds=100), seed))

    assert arrivals(1) == arrivals(1) != arrivals(2)
    gaps = np.diff(arrivals(1))
    assert 4700 < len(gaps) < 5300
    assert np.mean(gaps) == pytest.approx(0.02, rel=0.05)
    assert np.std(gaps) == pytest.approx(0.02, rel=0.1)  # exponential: as wide as its mean


def test_no_arrival_is_dropped_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "MOST_IN_FLIGHT", 4)
    asked = open_loop(Detector(0.1), itertools.repeat(0), 1e6, Bounds(count=50))
    assert len(asked.outcomes) == 50
    assert len(latencies(asked)) == 4
    assert kinds(asked) == {"not sent": 46}


def test_what_waits_too_long_at_the_end_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "DRAIN_SECONDS", 0.15)
    asked = open_loop(Detector(0.1), itertools.repeat(0), 1e6, Bounds(count=30), workers=1)
    assert len(asked.outcomes) == 30
    assert kinds(asked)["not sent"] == 30 - len(latencies(asked)) >= 26


def test_an_open_loops_time_is_at_least_what_it_was_given() -> None:
    asked = open_loop(Detector(), itertools.repeat(0), 20, Bounds(seconds=0.3))
    assert 0.3 <= asked.seconds < 2


def test_errors_are_results() -> None:
    asked = closed_loop(failing, itertools.repeat(0), 2, Bounds(count=6))
    assert asked.stopped is None
    assert kinds(asked) == {"image": 6}
    assert {outcome.error for outcome in asked.outcomes} == {("image", "This is no image.")}


@pytest.mark.parametrize("rate", [None, 1000.0])
def test_a_server_that_is_gone_ends_the_run(rate: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "PAUSE_SECONDS", 0.001)
    detector, answered = Detector(), 10

    def dies(photograph: int) -> int:
        return detector(photograph) if len(detector.asked) < answered else gone(photograph)

    order = itertools.repeat(0)
    asked = (
        closed_loop(dies, order, 2, Bounds(seconds=30))
        if rate is None
        else open_loop(dies, order, rate, Bounds(seconds=30))
    )
    assert asked.stopped == "It can't be reached."
    assert len(latencies(asked)) >= answered
    assert kinds(asked)["unavailable"] >= 20
    assert asked.seconds < 10


@pytest.mark.parametrize(("errors", "complete"), [(2, True), (3, False)])
def test_a_run_that_ends_without_a_server_is_not_complete(errors: int, complete: bool) -> None:
    turn = itertools.count()
    asked = closed_loop(
        lambda each: 1 if next(turn) < 5 else gone(each), itertools.repeat(0), 1, Bounds(count=5 + errors)
    )
    assert (asked.stopped is None) == complete
    assert len(latencies(asked)) == 5


def test_an_error_now_and_then_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "PAUSE_SECONDS", 0.0)
    turn = itertools.count()
    asked = closed_loop(
        lambda photograph: gone(photograph) if next(turn) % 3 else 0, itertools.repeat(0), 1, Bounds(count=90)
    )
    assert asked.stopped is None
    assert kinds(asked) == {"unavailable": 60}


@pytest.mark.parametrize("rate", [None, 1000.0])
def test_interrupted_it_keeps_what_there_is(rate: float | None) -> None:
    closed = threading.Event()
    turn = itertools.count()

    def ask(_: int) -> int:
        number = next(turn)
        if number == 5:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        if number >= 5:
            closed.wait(10)
            raise RuntimeUnavailableError("closed")
        return 1

    if rate is None:
        asked = closed_loop(ask, itertools.repeat(0), 1, Bounds(count=100), closed.set)
    else:
        asked = open_loop(ask, itertools.repeat(0), rate, Bounds(count=100), interrupt=closed.set)
    assert closed.is_set()
    assert asked.stopped == "It was interrupted."
    assert len(latencies(asked)) == 5
    assert kinds(asked) == {}


def test_outcomes_tell_which_photograph_it_was() -> None:
    asked = closed_loop(lambda photograph: photograph, iter([3, 1, 2]), 1, Bounds(count=10))
    assert [(outcome.photograph, outcome.detections) for outcome in asked.outcomes] == [(3, 3), (1, 1), (2, 2)]
    assert isinstance(asked.outcomes[0], RequestOutcome)
