"""Both clients against the gateway itself, on a socket."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import httpx
import numpy as np
import pytest

from resnest_client import AsyncHttpDetector, HttpDetector
from resnest_core.detections import Detections
from resnest_core.detector import InProcessDetector
from resnest_core.errors import (
    AccessError,
    ImageTooLargeError,
    ModelNotFoundError,
    NotAnImageError,
    NotOpenError,
    ParameterError,
    RuntimeUnavailableError,
)
from resnest_core.runtimes import FakeRuntime
from resnest_core.tensors import Tensors
from tests.client.client_variants import URL, Ask, assert_same, both, pixels
from tests.client.gateway import Gateway
from tests.client.served import Serve, Served

PATIENCE = 10  # seconds


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def slow(seconds: float) -> FakeRuntime:
    def wait(_: Tensors) -> None:
        time.sleep(seconds)

    return FakeRuntime(before_run=wait)


def held(release: threading.Event) -> FakeRuntime:
    def wait(_: Tensors) -> None:
        assert release.wait(PATIENCE)

    return FakeRuntime(before_run=wait)


@both
@pytest.mark.parametrize("wishes", [{}, {"masks": False}, {"score_threshold": 0.6}])
def test_as_in_the_process(ask: Ask, serve: Serve, wishes: dict[str, float]) -> None:
    runtime = FakeRuntime()
    local = InProcessDetector(runtime)
    images = [pixels(40 + side, 60) for side in range(3)]
    options: dict[str, object] = {**wishes}
    card, found = ask(images, serve(runtime).url, **options)  # type: ignore[arg-type]
    assert card == runtime.card
    for detections, image in zip(found, images, strict=True):
        assert_same(detections, local.detect(image, **wishes))  # type: ignore[arg-type]


@both
def test_large_answers_are_compressed_on_the_way(ask: Ask, serve: Serve) -> None:
    runtime = FakeRuntime(count=50)
    _, (found,) = ask([pixels()], serve(runtime).url)
    assert_same(found, InProcessDetector(runtime).detect(pixels()))


@both
def test_errors(ask: Ask, serve: Serve) -> None:
    served = serve(FakeRuntime(), max_pixels=60 * 40, max_body_bytes=2_000_000)
    with pytest.raises(ModelNotFoundError, match="There is no model 'absent' here"):
        ask([], served.url, "absent")
    with pytest.raises(ImageTooLargeError, match="pixels"):
        ask([pixels(41, 60)], served.url)
    with pytest.raises(ImageTooLargeError, match="The body is larger"):
        ask([np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), np.uint8)], served.url)
    with pytest.raises(NotAnImageError):
        ask(["absent.jpg"], served.url)
    with pytest.raises(ParameterError):
        ask([pixels()], served.url, score_threshold=2)


@both
def test_a_rate_limit_is_waited_for(ask: Ask, serve: Serve, slept: list[float]) -> None:
    served = serve(FakeRuntime(), rate_limit="2/hour")
    ask([pixels()], served.url)
    with pytest.raises(AccessError, match="more than 2 per 1 hour"):
        ask([pixels()], served.url)
    assert slept == [], "an hour is too long to wait"


@both
def test_a_full_queue_is_asked_again(ask: Ask, serve: Serve, slept: list[float]) -> None:
    """`Retry-After` of the gateway itself is honoured; as the waits take no time here, all of them fail."""
    release = threading.Event()
    runtime = held(release)
    served = serve(runtime, max_queue=1, max_images=1)
    with HttpDetector(served.url) as other:
        thread = threading.Thread(target=other.detect, args=(pixels(),))
        thread.start()
        until(lambda: served.in_flight == 1 and bool(runtime.calls))
        with pytest.raises(RuntimeUnavailableError):
            ask([pixels()], served.url, retries=3)
        release.set()
        thread.join()
    assert len(slept) == 3
    assert all(seconds >= 1 for seconds in slept)


@both
def test_connections_are_used_again(ask: Ask, serve: Serve) -> None:
    served = serve(FakeRuntime())
    ask([pixels()] * 10, served.url)
    assert served.requests == 11
    assert len(served.clients) == 1


def many(served: Served, images: list[object], concurrency: int, is_async: bool, **options: object) -> list[Detections]:
    """Return what `detect_many` yields."""
    if not is_async:
        with HttpDetector(served.url, max_concurrency=concurrency) as detector:
            return list(detector.detect_many(images, **options))  # type: ignore[call-overload]

    async def run() -> list[Detections]:
        async with AsyncHttpDetector(served.url, max_concurrency=concurrency) as detector:
            return [found async for found in detector.detect_many(images, **options)]  # type: ignore[call-overload]

    return asyncio.run(run())


@pytest.mark.parametrize("is_async", [False, True], ids=["waits", "awaits"])
@pytest.mark.parametrize("concurrency", [1, 3])
def test_many_in_order_and_no_more_than_allowed(serve: Serve, concurrency: int, is_async: bool) -> None:
    served = serve(slow(0.01))
    found = many(served, [pixels(20 + side, 30) for side in range(12)], concurrency, is_async, masks=False)
    assert [detections.image_size_hw for detections in found] == [(20 + side, 30) for side in range(12)]
    assert all(detections.masks is None for detections in found)
    assert served.most == concurrency
    assert len(served.clients) <= 1 + concurrency


@pytest.mark.parametrize("is_async", [False, True], ids=["waits", "awaits"])
def test_many_stop_at_the_first_that_fails(serve: Serve, is_async: bool) -> None:
    served = serve(slow(0.01))
    images: list[object] = [pixels(), pixels(), b"no image", *[pixels()] * 50]
    with pytest.raises(NotAnImageError):
        many(served, images, 2, is_async)
    assert served.requests < 12
    until(lambda: served.in_flight == 0)


def test_the_bound_holds_for_all_requests_of_an_async_client(serve: Serve) -> None:
    served = serve(slow(0.01))

    async def run() -> list[Detections]:
        async with AsyncHttpDetector(served.url, max_concurrency=2) as detector:
            return await asyncio.gather(*(detector.detect(pixels(20 + side)) for side in range(10)))

    found = asyncio.run(run())
    assert [detections.image_size_hw[0] for detections in found] == list(range(20, 30))
    assert served.most == 2


def test_a_client_of_threads_is_used_from_several(serve: Serve) -> None:
    served = serve(slow(0.01))
    found: dict[int, Detections] = {}
    with HttpDetector(served.url) as detector:

        def work(side: int) -> None:
            found[side] = detector.detect(pixels(side))

        threads = [threading.Thread(target=work, args=(side,)) for side in range(20, 28)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {side: detections.image_size_hw[0] for side, detections in found.items()} == {s: s for s in range(20, 28)}


def test_cancelling_frees_the_place_at_once(serve: Serve) -> None:
    release = threading.Event()
    runtime = held(release)
    served = serve(runtime)

    async def run() -> None:
        async with AsyncHttpDetector(served.url, max_concurrency=1) as detector:
            first = asyncio.create_task(detector.detect(pixels()))
            waiting = asyncio.create_task(detector.detect(pixels()))
            await asyncio.to_thread(until, lambda: served.in_flight == 1 and bool(runtime.calls))
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            release.set()
            assert len(await asyncio.wait_for(waiting, PATIENCE)) == 3
            assert len(await asyncio.wait_for(detector.detect(pixels()), PATIENCE)) == 3

    asyncio.run(run())
    assert served.most <= 2, "the server may learn of it a moment later"
    until(lambda: served.in_flight == 0)


def test_cancelling_while_it_waits_to_ask_again() -> None:
    async def run() -> None:
        async with AsyncHttpDetector(URL, transport=Gateway(intercept=refuse)) as detector:
            task = asyncio.create_task(detector.detect(pixels()))
            await asyncio.sleep(0.2)
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, 1)

    def refuse(_: httpx.Request) -> httpx.Response:
        return httpx.Response(503, headers={"Retry-After": "20"})

    asyncio.run(run())


def test_an_async_client_that_is_opened_and_closed_by_hand() -> None:
    async def run() -> None:
        gateway = Gateway()
        detector = AsyncHttpDetector(URL, transport=gateway)
        assert not gateway.requests, "nothing is asked before it is opened"
        assert await detector.open() is detector
        assert len(await detector.detect(pixels())) == 3
        await detector.close()
        with pytest.raises(NotOpenError, match="isn't open"):
            detector.detect_many([pixels()])
        with pytest.raises(NotOpenError, match="isn't open"):
            await detector.detect(pixels())

    asyncio.run(run())
