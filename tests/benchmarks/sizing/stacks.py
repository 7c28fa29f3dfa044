"""Stacks, service times and loads that tests of the simulation share."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

from hypothesis import strategies as st

from benchmarks.sizing.loads import ClosedLoop, OpenLoop, poisson
from benchmarks.sizing.outcome import Outcome
from benchmarks.sizing.service_times import ServiceTimes
from benchmarks.sizing.simulation import simulate
from benchmarks.sizing.stack import Balancer, Batching, Stack

SECOND = ServiceTimes({1: [1.0]})
"""Every batch takes a second per image."""
EXPONENTIAL = ServiceTimes({1: [-math.log(1 - (number + 0.5) / 5000) for number in range(5000)]})
"""Exponentially distributed, a second on average."""
SEEDS = range(10)

stacks = st.builds(
    Stack,
    gateways=st.integers(1, 4),
    servers=st.integers(1, 3),
    max_batch=st.integers(1, 4),
    max_wait=st.sampled_from([0.0, 0.5]),
    max_queue=st.integers(1, 8),
    host_threads=st.integers(1, 2),
    decode_seconds=st.sampled_from([0.0, 0.1]),
    encode_seconds=st.sampled_from([0.0, 0.1]),
    shapes=st.sampled_from([(1.0,), (0.5, 0.3, 0.2)]),
    balancer=st.sampled_from(Balancer),
    batching=st.sampled_from(Batching),
)
service_times = st.lists(st.floats(0.01, 2), min_size=1, max_size=5).map(lambda samples: ServiceTimes({1: samples}))
open_loops = st.builds(poisson, st.floats(0.1, 20), st.integers(1, 40), st.integers(0, 9))
closed_loops = st.builds(ClosedLoop, st.integers(1, 10), st.integers(1, 40))
loads: st.SearchStrategy[OpenLoop | ClosedLoop] = st.one_of(open_loops, closed_loops)


def mean_of_seeds(
    stack: Stack, service: ServiceTimes, rate: float, figure: Callable[[Outcome], float]
) -> tuple[float, float]:
    """Return the mean of a figure under Poisson arrivals over SEEDS, and the mean's standard error."""
    values = [figure(simulate(stack, service, poisson(rate, 4_000, seed, 800), seed)) for seed in SEEDS]
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
