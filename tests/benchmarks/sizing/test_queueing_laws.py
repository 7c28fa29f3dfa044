"""The simulation obeys the laws of queueing theory."""

from __future__ import annotations

import heapq
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.sizing.loads import ClosedLoop, OpenLoop, poisson
from benchmarks.sizing.service_times import ServiceTimes
from benchmarks.sizing.simulation import simulate
from benchmarks.sizing.stack import Balancer, Stack
from tests.benchmarks.sizing.stacks import (
    EXPONENTIAL,
    SECOND,
    closed_loops,
    loads,
    mean_of_seeds,
    open_loops,
    service_times,
    stacks,
)

PLENTY = 10_000  # places: nothing is refused
CONFIDENCE = 4.78  # standard errors of a mean of 10, 99.9 % (Student's t)


def assert_is(found: tuple[float, float], expected: float) -> None:
    """Assert that a mean is the expected one, with 99.9 % confidence, and that it is known well."""
    mean, error = found
    assert error < 0.04 * expected
    assert abs(mean - expected) < CONFIDENCE * error, (mean, error, expected)


def erlang_b(servers: int, load: float) -> float:
    """Return the share of lost requests of `servers` without a queue; `load` in Erlang."""
    lost = 1.0
    for number in range(1, servers + 1):
        lost = load * lost / (number + load * lost)
    return lost


def erlang_c_wait(servers: int, load: float) -> float:
    """Return the mean wait of M/M/c, in units of the service time."""
    lost, busy = erlang_b(servers, load), load / servers
    return lost / (1 - busy * (1 - lost)) / (servers - load)


@pytest.mark.parametrize("busy", [0.3, 0.6])
def test_wait_of_constant_service_is_pollaczek_and_khinchines(busy: float) -> None:
    wait = mean_of_seeds(Stack(max_queue=PLENTY), SECOND, busy, lambda outcome: outcome.mean_seconds - 1)
    assert_is(wait, busy / (2 * (1 - busy)))


@pytest.mark.parametrize(("servers", "load"), [(1, 0.6), (3, 2.1), (10, 7.5)])
def test_wait_of_exponential_service_is_erlangs(servers: int, load: float) -> None:
    stack = Stack(servers=servers, max_queue=PLENTY)
    mean = mean_of_seeds(stack, EXPONENTIAL, load, lambda outcome: outcome.mean_seconds)
    assert_is(mean, 1 + erlang_c_wait(servers, load))


@pytest.mark.parametrize("servers", [1, 4])
def test_share_of_503s_without_a_queue_is_erlangs(servers: int) -> None:
    stack = Stack(servers=servers, max_queue=servers)
    assert_is(mean_of_seeds(stack, EXPONENTIAL, servers, lambda each: each.refused_share), erlang_b(servers, servers))


@given(service_times, open_loops, st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_images_end_as_in_kiefer_and_wolfowitzs_recursion(service: ServiceTimes, load: OpenLoop, servers: int) -> None:
    seconds = service.seconds(1, 0)
    constant = ServiceTimes({1: [seconds]})
    free, ends = [0.0] * servers, []
    for time in load.times:
        heapq.heapreplace(free, max(free[0], float(time)) + seconds)
        ends.append(max(free))
    outcome = simulate(Stack(servers=servers, max_queue=PLENTY), constant, load)
    np.testing.assert_allclose(np.sort(outcome.ends), ends)


def test_random_balancing_makes_a_queue_of_its_own_for_each_gateway() -> None:
    stack = Stack(gateways=5, max_queue=PLENTY, balancer=Balancer.RANDOM)
    assert_is(mean_of_seeds(stack, SECOND, 5 * 0.6, lambda outcome: outcome.mean_seconds), 1 + 0.6 / (2 * 0.4))


def test_the_evener_the_balancer_the_shorter_the_wait() -> None:
    least, round_robin, random = (
        simulate(
            Stack(gateways=5, max_queue=PLENTY, balancer=balancer), EXPONENTIAL, poisson(4, 20_000, 0, 2_000)
        ).mean_seconds
        for balancer in (Balancer.LEAST, Balancer.ROUND_ROBIN, Balancer.RANDOM)
    )
    assert 1 < least < 0.8 * round_robin < 0.8 * 0.8 * random


@pytest.mark.parametrize("stack", [Stack(servers=2), Stack(gateways=3, balancer=Balancer.RANDOM)])
def test_littles_law(stack: Stack) -> None:
    rate = 0.8 * stack.gateways * stack.servers
    outcome = simulate(replace(stack, max_queue=PLENTY), SECOND, poisson(rate, 30_000, 1, 5_000))
    assert outcome.queue_images == pytest.approx(rate * (outcome.mean_seconds - 1), rel=0.03)
    assert outcome.utilisation == pytest.approx(0.8, rel=0.03)
    assert outcome.images_per_second == pytest.approx(rate, rel=0.03)


@pytest.mark.parametrize("clients", [1, 2, 3, 8])
def test_closed_loop_is_as_fast_as_its_clients_or_the_servers(clients: int) -> None:
    stack = Stack(servers=3, decode_seconds=0.25, encode_seconds=0.25, host_threads=PLENTY)
    outcome = simulate(stack, SECOND, ClosedLoop(clients, 1000, 100))
    assert outcome.images_per_second == pytest.approx(min(clients / 1.5, 3), rel=0.02)
    assert outcome.mean_seconds == pytest.approx(max(1.5, clients / 3), rel=0.02)  # Little's law again


def test_a_gateways_threads_bound_it_as_servers_do() -> None:
    stack = Stack(servers=100, max_queue=PLENTY, decode_seconds=0.3, encode_seconds=0.1, host_threads=2)
    outcome = simulate(stack, SECOND, ClosedLoop(20, 4000, 1000))
    assert outcome.images_per_second == pytest.approx(2 / 0.4, rel=0.02)


@given(stacks, service_times, loads)
@settings(max_examples=150, deadline=None)
def test_every_image_is_answered_or_refused_once(
    stack: Stack, service: ServiceTimes, load: OpenLoop | ClosedLoop
) -> None:
    outcome = simulate(stack, service, load)
    sent = len(load.times) if isinstance(load, OpenLoop) else load.images
    assert len(outcome.ends) == len(outcome.starts) == sent - outcome.refused
    assert len(set(outcome.starts)) == len(outcome.starts) or isinstance(load, ClosedLoop)
    assert (outcome.latencies >= stack.host_seconds + service.seconds(1, 0) - 1e-9).all()
    assert outcome.utilisation <= 1 + 1e-9
    assert outcome.queue_images <= stack.gateways * stack.max_queue
    assert 1 <= outcome.batch_images <= stack.max_batch


@given(stacks, service_times, loads, st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_the_seed_decides_everything(
    stack: Stack, service: ServiceTimes, load: OpenLoop | ClosedLoop, seed: int
) -> None:
    one, other = (simulate(stack, service, load, seed) for _ in range(2))
    np.testing.assert_array_equal(one.ends, other.ends)
    assert one.refused == other.refused


@given(service_times, open_loops, st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_one_more_server_delays_nothing(service: ServiceTimes, load: OpenLoop, servers: int) -> None:
    fewer, more = (simulate(Stack(servers=count, max_queue=PLENTY), service, load) for count in (servers, servers + 1))
    assert (np.sort(more.ends) <= np.sort(fewer.ends) + 1e-9).all()


@given(service_times, closed_loops, st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_one_more_server_never_slows_a_closed_loop(service: ServiceTimes, load: ClosedLoop, servers: int) -> None:
    fewer, more = (simulate(Stack(servers=count, max_queue=PLENTY), service, load) for count in (servers, servers + 1))
    assert more.ends.max() <= fewer.ends.max() + 1e-9


def test_latencies_begin_after_the_warm_up() -> None:
    load = poisson(0.5, 100, 0, warm_up=60)
    outcome = simulate(Stack(), SECOND, load)
    assert outcome.begin == load.times[60]
    assert len(outcome.latencies) == 40
    assert not math.isnan(outcome.mean_seconds)
