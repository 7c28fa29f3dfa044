"""Which images share a batch: the rules, and the gateway's own queue beside the simulation of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import numpy as np
import pytest

from benchmarks.sizing.batch_rules import gateway_batch, triton_batch
from benchmarks.sizing.loads import OpenLoop
from benchmarks.sizing.service_times import ServiceTimes
from benchmarks.sizing.simulation import simulate
from benchmarks.sizing.stack import Batching, Stack
from resnest_core import tensors
from resnest_core.detector import InProcessDetector
from resnest_core.preprocess import prepare
from resnest_core.runtimes import FakeRuntime
from resnest_server.batching import Batcher


@dataclass(frozen=True)
class Image:
    """An image that has a padded shape."""

    shape: int


def queue(shapes: str) -> list[Image]:
    return [Image(ord(shape)) for shape in shapes]


@pytest.mark.parametrize(
    ("shapes", "waited", "max_wait", "batch"),
    [
        ("a", 0, 0, "a"),
        ("aba", 0, 0, "aa"),
        ("abaa", 0, 0, "aaa"),
        ("aaaaa", 0, 1, "aaaa"),
        ("abaa", 0.9, 1, ""),
        ("abaa", 1, 1, "aaa"),
        ("abbbb", 0, 1, ""),
    ],
)
def test_gateway_takes_the_oldest_images_shape_from_the_whole_queue(
    shapes: str, waited: float, max_wait: float, batch: str
) -> None:
    assert gateway_batch(queue(shapes), 4, waited, max_wait) == queue(batch)


@pytest.mark.parametrize(
    ("shapes", "waited", "max_wait", "batch"),
    [
        ("a", 0, 0, "a"),
        ("aba", 0, 0, "a"),  # another shape follows
        ("aab", 0, 1, "aa"),  # half of a batch is preferred
        ("aaa", 0, 1, "aa"),
        ("aaa", 1, 1, "aaa"),  # overdue
        ("aaaaa", 0, 1, "aaaa"),
        ("aaa", 5, 0, "aa"),  # without a delay nothing is overdue
        ("a", 0.9, 1, ""),
        ("ab", 0, 1, "a"),
    ],
)
def test_triton_ends_a_batch_at_another_shape(shapes: str, waited: float, max_wait: float, batch: str) -> None:
    assert triton_batch(queue(shapes), 4, waited, max_wait) == queue(batch)


SECONDS = 0.15  # of a batch
TIMES = (0.0, 0.05, 0.05, 0.05, 0.05, 0.35, 0.36, 0.8, 0.81, 0.82, 0.83, 0.84)
"""When images arrive: while a batch runs, both servers idle, and more than a batch at once."""


def test_the_simulations_batches_are_the_gateways() -> None:
    stacks = [Stack(servers=servers, max_batch=3, max_wait=wait) for servers in (1, 2) for wait in (0.0, 0.1)]
    runtimes = [FakeRuntime(before_run=lambda _: time.sleep(SECONDS)) for _ in stacks]

    async def run_all() -> list[list[float]]:
        return await asyncio.gather(*(real_latencies(*each) for each in zip(runtimes, stacks, strict=True)))

    real = asyncio.run(run_all())
    constant = ServiceTimes({size: [SECONDS] for size in (1, 2, 3)})
    for runtime, stack, latencies in zip(runtimes, stacks, real, strict=True):
        simulated = simulate(stack, constant, OpenLoop(np.array(TIMES)))
        batches = [len(call[tensors.ORIGINAL_SIZES]) for call in runtime.calls]
        assert np.mean(batches) == pytest.approx(simulated.batch_images), stack
        assert np.mean(latencies) == pytest.approx(simulated.mean_seconds, rel=0.15), stack


async def real_latencies(runtime: FakeRuntime, stack: Stack) -> list[float]:
    """Return the latencies of images that arrive at TIMES."""
    detector = InProcessDetector(runtime)
    batcher = Batcher(detector, max_batch=stack.max_batch, max_wait=stack.max_wait, instances=stack.servers)
    batcher.start()
    image = prepare(np.zeros((40, 60, 3), np.uint8), runtime.card)
    begun = time.monotonic()

    async def send(at: float) -> float:
        await asyncio.sleep(begun + at - time.monotonic())
        await batcher.infer(image, 0.5, False)
        return time.monotonic() - begun - at

    latencies = await asyncio.gather(*(send(at) for at in TIMES))
    await batcher.stop()
    return latencies


def test_batches_of_a_full_queue_are_full() -> None:
    stack = Stack(max_batch=4, max_queue=100, batching=Batching.TRITON, max_wait=0.01)
    outcome = simulate(stack, ServiceTimes({1: [1.0], 4: [2.0]}), OpenLoop(np.linspace(0, 1, 41)))
    assert outcome.batch_images == pytest.approx(41 / 11)  # one alone, which was overdue; then fours


@pytest.mark.parametrize("batching", Batching)
def test_the_oldest_image_of_a_batch_waits_no_longer_than_it_may(batching: Batching) -> None:
    stack = Stack(max_batch=8, max_wait=1.0, batching=batching)
    outcome = simulate(stack, ServiceTimes({1: [0.5], 3: [0.5]}), OpenLoop(np.array([0.0, 0.6, 0.9, 5.0])))
    np.testing.assert_allclose(outcome.ends, [1.5, 1.5, 1.5, 6.5])
