"""The fewest gateways that carry a load within a latency, found by simulation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from benchmarks.sizing.loads import poisson
from benchmarks.sizing.outcome import Outcome
from benchmarks.sizing.service_times import ServiceTimes
from benchmarks.sizing.simulation import simulate
from benchmarks.sizing.stack import Stack
from resnest_core.errors import ParameterError

IMAGES, IMAGES_PER_SERVER = 20_000, 30  # of a simulation
WARM_UP = 3  # the share of them that isn't counted, while queues settle: a third
MOST_GATEWAYS = 10_000
MOST_BUSY = 0.9  # nearer to 1 a queue hasn't settled within a simulation, and a stack has nothing left for a peak
PRECISION = 200  # beyond so many gateways, the fewest is found to within one part in so many: the rest is noise


@dataclass(frozen=True)
class Demand:
    """What is asked of a stack.

    Attributes:
        rate: images per second.
        p95_seconds: largest 95th percentile of the latency.
        refused_share: largest share of images answered 503.
        busy: largest share of its time that a server, or a gateway's thread, works.
    """

    rate: float
    p95_seconds: float
    refused_share: float = 0.001
    busy: float = MOST_BUSY

    def is_met(self, outcome: Outcome) -> bool:
        return outcome.refused_share <= self.refused_share and outcome.percentile(95) <= self.p95_seconds


@dataclass(frozen=True)
class Plan:
    """The fewest gateways that meet a demand, what they gave, and every number of gateways that was simulated."""

    gateways: int
    outcome: Outcome
    tried: dict[int, Outcome] = field(repr=False)

    @property
    def gateways_with_one_lost(self) -> int:
        """Gateways of which one may be down: the balancer sends everything to the others."""
        return self.gateways + 1


def plan(demand: Demand, stack: Stack, service: ServiceTimes, seed: int = 0) -> Plan:
    """Return the fewest gateways, each like those of `stack`, that meet a demand.

    Each number of gateways gets the same images at the same times. More gateways are taken to be better.

    Raises:
        ParameterError: no number of gateways can.
    """
    if not 0 <= demand.refused_share <= 1:
        raise ParameterError("The share of 503s that a plan allows is between 0 and 1.")
    if not 0 < demand.rate < math.inf or not demand.p95_seconds > 0 or not 0 < demand.busy < 1:
        raise ParameterError("A plan needs a rate and a p95 above 0, and servers that are busy for 0 to 1 of the time.")
    alone = simulate(stack, service, poisson(0.01 / service.mean(), 1000, seed), seed).percentile(95)
    if alone > demand.p95_seconds:
        raise ParameterError(
            f"An image takes {alone:.3g} s at p95 even where nothing waits for it, more than {demand.p95_seconds:g} s: "
            "allow a longer p95, or choose a faster detector, precision or machine."
        )
    tried: dict[int, Outcome] = {}

    def is_enough(gateways: int) -> bool:
        images = images_for(gateways * stack.servers)
        load = poisson(demand.rate, images, seed, images // WARM_UP)
        tried[gateways] = simulate(replace(stack, gateways=gateways), service, load, seed)
        return demand.is_met(tried[gateways])

    # The queue's share grows with the root of the load, so the search begins with steps of that size.
    too_few = least_gateways(demand, stack, service) - 1
    step = max(1, round(math.sqrt(too_few) / 2))
    enough = too_few + 1
    while not is_enough(enough):
        too_few, enough, step = enough, enough + step, 2 * step
        if enough > MOST_GATEWAYS:
            raise ParameterError(f"Not even {too_few} gateways suffice: allow a longer p95, or a larger queue.")
    while enough - too_few > max(1, enough // PRECISION):
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if is_enough(middle) else (middle, enough)
    return Plan(enough, tried[enough], tried)


def images_for(servers: int) -> int:
    """Return how many images a simulation of so many servers needs."""
    return IMAGES + IMAGES_PER_SERVER * servers


def least_gateways(demand: Demand, stack: Stack, service: ServiceTimes) -> int:
    """Return the fewest gateways whose servers, and whose threads, aren't busy for more of the time than is allowed."""
    network = demand.rate * service.seconds_per_image(stack.max_batch) / stack.servers
    host = demand.rate * stack.host_seconds / stack.host_threads
    return max(1, math.ceil(max(network, host) / demand.busy))
