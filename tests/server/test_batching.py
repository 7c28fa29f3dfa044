"""The queue before a network: batches of one shape, bounded places, failures that stay where they arose."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnest_core import tensors
from resnest_core.detector import InProcessDetector
from resnest_core.errors import RuntimeUnavailableError
from resnest_core.preprocess import PreparedImage
from resnest_core.runtimes import FakeRuntime
from resnest_core.tensors import Tensors
from resnest_server.batching import Batcher, Inference, InferenceError


def image(height: int = 32, width: int = 32, original: tuple[int, int] = (100, 100), value: int = 0) -> PreparedImage:
    return PreparedImage(np.full((height, width, 3), value, np.uint8), (height, width), original)


@asynccontextmanager
async def started(runtime: FakeRuntime, **options: Any) -> AsyncIterator[Batcher]:
    defaults = {"max_batch": 4, "max_wait": 0.0, "instances": 1}
    batcher = Batcher(InProcessDetector(runtime), **defaults | options)
    batcher.start()
    try:
        yield batcher
    finally:
        await batcher.stop()


def infer(batcher: Batcher, prepared: PreparedImage, threshold: float = 0.05) -> asyncio.Task[Inference]:
    work: Coroutine[Any, Any, Inference] = batcher.infer(prepared, threshold, True)
    return asyncio.get_running_loop().create_task(work)


class Gate:
    """Holds a runtime until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self, _: Tensors) -> None:
        self.reached.set()
        assert self.open.wait(30)

    async def until_reached(self) -> None:
        await asyncio.to_thread(self.reached.wait, 30)


def shapes(runtime: FakeRuntime) -> list[tuple[int, ...]]:
    return [call[tensors.IMAGES].shape[:3] for call in runtime.calls]


def test_what_came_while_the_network_ran_runs_together_where_shapes_agree() -> None:
    gate = Gate()
    runtime = FakeRuntime(before_run=gate)

    async def scenario() -> None:
        async with started(runtime) as batcher:
            tasks = [infer(batcher, image())]
            await gate.until_reached()
            tasks += [infer(batcher, image(*size)) for size in [(32, 64), (32, 32), (32, 64), *[(32, 64)] * 3]]
            await asyncio.sleep(0)
            gate.open.set()
            await asyncio.gather(*tasks)

    asyncio.run(scenario())
    assert shapes(runtime) == [(1, 32, 32), (4, 32, 64), (1, 32, 32), (1, 32, 64)]


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.sampled_from([32, 64]), st.sampled_from([32, 64])), min_size=1, max_size=20),
    max_batch=st.integers(1, 5),
    instances=st.integers(1, 3),
    max_wait=st.sampled_from([0.0, 0.005]),
)
def test_everybody_gets_the_answer_for_their_own_image(
    sizes: list[tuple[int, int]], max_batch: int, instances: int, max_wait: float
) -> None:
    runtime = FakeRuntime()

    async def scenario() -> list[Inference]:
        async with started(runtime, max_batch=max_batch, instances=instances, max_wait=max_wait) as batcher:
            images = [image(*size, original=(100 + index, 50)) for index, size in enumerate(sizes)]
            return await asyncio.gather(*(infer(batcher, prepared) for prepared in images))

    results = asyncio.run(scenario())
    assert [result.detections.image_size_hw for result in results] == [(100 + i, 50) for i in range(len(sizes))]
    assert sum(shape[0] for shape in shapes(runtime)) == len(sizes)
    assert max(shape[0] for shape in shapes(runtime)) <= max_batch
    assert all(1 <= result.batch_size <= max_batch for result in results)


def test_a_batch_waits_for_others_until_it_is_full() -> None:
    runtime = FakeRuntime()

    async def scenario() -> None:
        async with started(runtime, max_batch=3, max_wait=30) as batcher:
            tasks = []
            for _ in range(3):
                tasks.append(infer(batcher, image()))
                await asyncio.sleep(0.02)
            await asyncio.wait_for(asyncio.gather(*tasks), 10)

    asyncio.run(scenario())
    assert shapes(runtime) == [(3, 32, 32)]


def test_a_batch_does_not_wait_longer_than_it_may() -> None:
    runtime = FakeRuntime()

    async def scenario() -> Inference:
        async with started(runtime, max_batch=3, max_wait=0.05) as batcher:
            return await asyncio.wait_for(infer(batcher, image()), 10)

    assert 0.04 <= asyncio.run(scenario()).wait_seconds < 5


def test_who_is_cancelled_leaves_the_queue_and_is_not_run() -> None:
    gate = Gate()
    runtime = FakeRuntime(before_run=gate)

    async def scenario() -> None:
        async with started(runtime) as batcher:
            first = infer(batcher, image(value=0))
            await gate.until_reached()
            second, third = (infer(batcher, image(value=value)) for value in (1, 2))
            await asyncio.sleep(0)
            assert batcher.waiting == 2
            second.cancel()
            first.cancel()  # it runs already: nobody gets its answer
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert batcher.waiting == 1
            gate.open.set()
            await third

    asyncio.run(scenario())
    assert [call[tensors.IMAGES].max() for call in runtime.calls] == [0, 2]


def test_an_image_that_breaks_the_network_breaks_no_other() -> None:
    gate = Gate()

    def run(inputs: Tensors) -> None:
        gate(inputs)
        if (inputs[tensors.IMAGES] == 13).any():
            raise ValueError("this one")

    runtime = FakeRuntime(before_run=run)

    async def scenario() -> list[Any]:
        async with started(runtime) as batcher:
            first = infer(batcher, image())
            await gate.until_reached()
            tasks = [infer(batcher, image(value=value)) for value in (1, 13, 2)]
            await asyncio.sleep(0)
            gate.open.set()
            await first
            return await asyncio.gather(*tasks, return_exceptions=True)

    one, bad, two = asyncio.run(scenario())
    assert isinstance(bad, InferenceError)
    assert len(one.detections) == len(two.detections) == 3


@pytest.mark.parametrize(
    "spoil",
    [
        lambda out: {**out, tensors.BOXES: out[tensors.BOXES] * np.nan},
        lambda out: {**out, tensors.SCORES: out[tensors.SCORES] + 2},
        lambda out: {**out, tensors.LABELS: out[tensors.LABELS] + 99},
        lambda out: {**out, tensors.LABELS: out[tensors.LABELS][:, :1]},
        lambda out: {tensors.BOXES: out[tensors.BOXES]},
        lambda _: {},
        lambda _: None,
    ],
)
def test_garbage_is_a_failure(spoil: Any) -> None:
    class Spoilt(FakeRuntime):
        def run(self, inputs: Tensors) -> Tensors:
            spoilt: Tensors = spoil(super().run(inputs))
            return spoilt

    async def scenario() -> None:
        async with started(Spoilt()) as batcher:
            with pytest.raises(InferenceError):
                await batcher.infer(image(), 0.05, True)

    asyncio.run(scenario())


def test_a_runtime_that_is_away_says_so() -> None:
    def away(_: Tensors) -> None:
        raise RuntimeUnavailableError("It is away.")

    async def scenario() -> None:
        async with started(FakeRuntime(before_run=away)) as batcher:
            with pytest.raises(RuntimeUnavailableError, match=r"It is away\."):
                await batcher.infer(image(), 0.05, True)

    asyncio.run(scenario())


def test_instances_run_side_by_side() -> None:
    barrier = threading.Barrier(3)

    def meet(_: Tensors) -> None:
        barrier.wait(30)

    async def scenario() -> None:
        async with started(FakeRuntime(before_run=meet), instances=3, max_batch=1) as batcher:
            await asyncio.gather(*(infer(batcher, image()) for _ in range(3)))

    asyncio.run(scenario())
