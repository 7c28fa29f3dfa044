"""Plans are the fewest gateways that suffice, up to 1,000."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.sizing.loads import poisson
from benchmarks.sizing.outcome import Outcome
from benchmarks.sizing.plan import WARM_UP, Demand, images_for, plan
from benchmarks.sizing.service_times import ServiceTimes
from benchmarks.sizing.simulation import simulate
from benchmarks.sizing.stack import Balancer, Stack
from resnest_core.errors import ParameterError
from tests.benchmarks.sizing.stacks import SECOND

VARIED = ServiceTimes({1: [0.15, 0.2, 0.25, 0.4]})


@pytest.mark.parametrize("balancer", [Balancer.ROUND_ROBIN, Balancer.RANDOM])
def test_a_plan_is_the_first_number_that_suffices(balancer: Balancer) -> None:
    demand = Demand(rate=16, p95_seconds=0.9)
    stack = Stack(servers=2, balancer=balancer)
    found = plan(demand, stack, VARIED)
    assert found.gateways_with_one_lost == found.gateways + 1

    def suffices(gateways: int) -> bool:
        images = images_for(2 * gateways)
        load = poisson(demand.rate, images, 0, images // WARM_UP)
        outcome = simulate(replace(stack, gateways=gateways), VARIED, load)
        return demand.is_met(outcome) and outcome.utilisation < 0.95

    assert suffices(found.gateways) and not suffices(found.gateways - 1)
    assert found.outcome.percentile(95) <= 0.9


@given(st.integers(10, 1000))
@settings(max_examples=60, deadline=None)
def test_the_search_finds_the_fewest(fewest: int) -> None:
    def simulated(stack: Stack, *_: object) -> Outcome:
        # One gateway, to which images come seldom, is what a plan looks at first; 10 are needed for the rate alone.
        seconds = 1.0 if stack.gateways == 1 or stack.gateways >= fewest else 2.0
        return Outcome(np.zeros(1), np.full(1, seconds), 0, 0.0, 1.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.sizing.plan.simulate", simulated)
        found = plan(Demand(rate=9, p95_seconds=1), Stack(), SECOND)
    assert fewest <= found.gateways <= fewest + fewest // 200
    assert len(found.tried) <= 20


def test_a_plan_leaves_a_tenth_of_the_servers_idle() -> None:
    found = plan(Demand(rate=9, p95_seconds=1000, refused_share=1), Stack(), SECOND)
    assert found.gateways == 10
    assert found.outcome.utilisation == pytest.approx(0.9, rel=0.03)


def test_a_gateways_threads_count_too() -> None:
    stack = Stack(servers=50, decode_seconds=0.02, encode_seconds=0.02, max_queue=1000)
    assert plan(Demand(rate=45, p95_seconds=3), stack, SECOND).gateways == 2


def test_thousand_servers_are_planned_in_seconds() -> None:
    begun = time.process_time()
    found = plan(Demand(rate=3600, p95_seconds=0.95), Stack(servers=2, balancer=Balancer.LEAST), VARIED)
    assert 2 * found.gateways == pytest.approx(1000, rel=0.02)
    assert time.process_time() - begun < 30


def test_what_no_number_of_gateways_can_do_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"even where nothing waits for it"):
        plan(Demand(rate=1, p95_seconds=0.3), Stack(), VARIED)


@pytest.mark.parametrize(
    "demand",
    [Demand(0, 1), Demand(-1, 1), Demand(float("inf"), 1), Demand(1, 0), Demand(1, 1, busy=0), Demand(1, 1, busy=1)],
)
def test_other_demands_are_refused(demand: Demand) -> None:
    with pytest.raises(ParameterError):
        plan(demand, Stack(), SECOND)


@pytest.mark.parametrize(
    "changes",
    [{"servers": 0}, {"gateways": 0}, {"max_batch": 0}, {"max_wait": -1.0}, {"decode_seconds": -1.0}, {"shapes": ()}],
)
def test_other_stacks_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        replace(Stack(), **changes)
