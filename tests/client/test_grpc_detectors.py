"""The gRPC clients return the same detections as the in-process detector; the sync client wraps the async one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
import pytest

from resnest_client import AsyncGrpcDetector, GrpcDetector
from resnest_core.detections import Detections
from resnest_core.detector import Detector, InProcessDetector
from resnest_core.errors import (
    InvalidModelError,
    ModelNotFoundError,
    NotAnImageError,
    NotOpenError,
    ParameterError,
    RemoteError,
    ResNeStError,
    RuntimeUnavailableError,
)
from resnest_core.images import Image
from resnest_core.runtimes import FakeRuntime
from resnest_core.runtimes.fake import FAKE_CARD
from tests.client.client_variants import assert_same, pixels
from tests.client.fake_triton import Triton
from tests.client.grpc_variants import PATIENCE, Ask, both, slow, until


@both
@pytest.mark.parametrize("has_masks", [True, False])
@pytest.mark.parametrize("wishes", [{}, {"masks": False}, {"score_threshold": 0.6}, {"score_threshold": 0.0}])
def test_as_in_the_process(ask: Ask, fake_triton: Triton, has_masks: bool, wishes: dict[str, Any]) -> None:
    card = FAKE_CARD if has_masks else FAKE_CARD.model_copy(update={"mask_size": None})
    local: Detector = InProcessDetector(FakeRuntime(card))
    images = [pixels(20 + side, 30) for side in range(3)]
    found_card, found = ask(images, fake_triton(FakeRuntime(card)).url, **wishes)
    assert found_card == card
    for detections, image in zip(found, images, strict=True):
        assert_same(detections, local.detect(image, **wishes))


def test_it_is_a_detector(fake_triton: Triton, tmp_path: Any) -> None:
    with GrpcDetector(fake_triton().url) as detector:
        same: Detector = detector
        assert len(same.detect(pixels())) == 3
        with pytest.raises(ParameterError, match="score_threshold must be"):
            same.detect(pixels(), score_threshold=2)
        with pytest.raises(NotAnImageError, match="can't be read"):
            same.detect(tmp_path / "absent.jpg")
        with pytest.raises(NotAnImageError, match="Pixels must be uint8"):
            same.detect(np.zeros((2, 2)))  # type: ignore[arg-type]


@both
@pytest.mark.parametrize("concurrency", [1, 3])
def test_many_in_order_and_no_more_than_allowed(ask: Ask, fake_triton: Triton, concurrency: int) -> None:
    server = fake_triton(FakeRuntime(before_run=slow))
    taken = 0

    def images() -> Iterator[Image]:
        nonlocal taken
        for side in range(15):
            taken += 1
            assert taken - server.asked <= 2 * concurrency + 1, "only a little is read ahead"
            yield pixels(20 + side, 30)

    _, found = ask(images(), server.url, max_concurrency=concurrency)
    assert [detections.image_size_hw for detections in found] == [(20 + side, 30) for side in range(15)]
    assert server.most == concurrency


@both
def test_many_stop_at_the_first_that_fails(ask: Ask, fake_triton: Triton) -> None:
    server = fake_triton(FakeRuntime(before_run=slow))
    with pytest.raises(NotAnImageError, match=r"^This is not an image: send"):
        ask([pixels(), pixels(), b"no image", *[pixels()] * 50], server.url, max_concurrency=2)
    assert server.asked < 12
    until(lambda: server.in_flight == 0)


def test_the_bound_holds_for_all_threads(fake_triton: Triton) -> None:
    server = fake_triton(FakeRuntime(before_run=slow))
    found: dict[int, Detections] = {}
    with GrpcDetector(server.url, max_concurrency=2) as detector:

        def work(side: int) -> None:
            found[side] = detector.detect(pixels(side))

        threads = [threading.Thread(target=work, args=(side,)) for side in range(20, 30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {side: detections.image_size_hw[0] for side, detections in found.items()} == {s: s for s in range(20, 30)}
    assert server.most == 2


@both
def test_the_first_of_ours_by_name(ask: Ask, fake_triton: Triton) -> None:
    cards = [FAKE_CARD.model_copy(update={"name": name}) for name in ("second", "first", "absent")]
    server = fake_triton(*map(FakeRuntime, cards), states={"absent": "UNAVAILABLE"})
    assert ask([], server.url)[0].name == "first"
    assert ask([], server.url, "second")[0].name == "second"


@both
@pytest.mark.parametrize(
    ("model", "error", "sentence"),
    [
        ("third", ModelNotFoundError, "There is no model 'third' at 127.0.0.1"),
        ("fake_network", InvalidModelError, "fake_network is not the ensemble of a detector"),
    ],
)
def test_models_that_are_none(
    ask: Ask, fake_triton: Triton, model: str, error: type[ResNeStError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        ask([], fake_triton().url, model)


@both
def test_no_model_of_ours(ask: Ask, fake_triton: Triton) -> None:
    with pytest.raises(ModelNotFoundError, match="has none of this project's models ready"):
        ask([], fake_triton(states={"fake": "LOADING"}).url)


@both
def test_a_model_of_another_version(ask: Ask, fake_triton: Triton) -> None:
    def without_boxes(answer: Any) -> None:
        del answer.outputs[1]

    with pytest.raises(InvalidModelError, match=r"of another version \(0\): output boxes is missing"):
        ask([], fake_triton(change_metadata=without_boxes).url)


@both
def test_answers_that_make_no_sense(ask: Ask, fake_triton: Triton) -> None:
    def cut(answer: Any) -> None:
        answer.raw_output_contents[1] = answer.raw_output_contents[1][:-4]

    def leave_out(answer: Any) -> None:
        del answer.outputs[1], answer.raw_output_contents[1]

    for change in (cut, leave_out):
        with pytest.raises(RemoteError, match="export its repository again"):
            ask([pixels()], fake_triton(change=change).url)


def test_a_server_that_goes_and_comes_back(fake_triton: Triton) -> None:
    server = fake_triton()
    with GrpcDetector(server.url, retries=0) as detector:
        assert len(detector.detect(pixels())) == 3
        server.stop()
        with pytest.raises(RuntimeUnavailableError, match="for fake now"):
            detector.detect(pixels())
        again = fake_triton(port=server.port)
        until(lambda: answers(detector))
        assert again.asked >= 1


def answers(detector: GrpcDetector) -> bool:
    try:
        return len(detector.detect(pixels())) == 3
    except RuntimeUnavailableError:
        return False


def test_cancelling_cancels_the_request_and_frees_the_place(fake_triton: Triton) -> None:
    release = threading.Event()
    server = fake_triton(refuse=lambda number: release.wait(PATIENCE) and None if number == 1 else None)

    async def run() -> None:
        async with AsyncGrpcDetector(server.url, max_concurrency=1) as detector:
            first = asyncio.create_task(detector.detect(pixels()))
            waiting = asyncio.create_task(detector.detect(pixels()))
            await asyncio.to_thread(until, lambda: server.asked == 1)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert len(await asyncio.wait_for(waiting, PATIENCE)) == 3
            await asyncio.to_thread(until, lambda: server.in_flight == 0)

    asyncio.run(run())
    release.set()


def test_closing_cancels_what_is_in_flight(fake_triton: Triton) -> None:
    release = threading.Event()
    server = fake_triton(refuse=lambda _: release.wait(PATIENCE) and None)
    detector = GrpcDetector(server.url)
    ended: list[BaseException] = []

    def work() -> None:
        try:
            detector.detect(pixels())
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: server.asked == 1)
    detector.close()
    thread.join(PATIENCE)
    assert [type(error) for error in ended] == [CancelledError]
    until(lambda: server.in_flight == 0)
    release.set()


def test_leaving_many_early_cancels_the_rest(fake_triton: Triton) -> None:
    server = fake_triton(FakeRuntime(before_run=slow))
    with GrpcDetector(server.url, max_concurrency=2) as detector:
        many = detector.detect_many([pixels()] * 100)
        assert len(next(many)) == 3
        many.close()  # type: ignore[attr-defined]
        asked = server.asked
        until(lambda: server.in_flight == 0)
        assert len(detector.detect(pixels())) == 3
    assert server.asked <= asked + 2


def test_detectors_share_a_thread_that_ends_with_the_last(fake_triton: Triton) -> None:
    first, second = (GrpcDetector(fake_triton().url) for _ in range(2))
    assert loops() == 1
    first.close()
    first.close()
    with pytest.raises(NotOpenError, match="closed"):
        first.detect(pixels())
    assert len(second.detect(pixels())) == 3
    second.close()
    with pytest.raises(NotOpenError, match="closed"):
        second.detect(pixels())
    assert loops() == 0


def loops() -> int:
    """Return how many event loops run on threads of their own."""
    return sum("-portal-" in thread.name for thread in threading.enumerate())


def test_an_async_one_that_is_not_open() -> None:
    async def run() -> None:
        detector = AsyncGrpcDetector("grpc://localhost")
        await detector.close()
        with pytest.raises(NotOpenError, match="isn't open: use `async with AsyncGrpcDetector"):
            assert detector.card
        with pytest.raises(NotOpenError, match="isn't open: use `async with AsyncGrpcDetector"):
            await detector.detect(pixels())

    asyncio.run(run())


@both
def test_nobody_is_there(ask: Ask) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"Triton can't be reached at 127.0.0.1:9: start it, or name"):
        ask([], "grpc://127.0.0.1:9", retries=0)


@both
def test_what_is_there_is_not_triton(ask: Ask) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with pytest.raises(RemoteError, match="is not Triton: name the address of its gRPC port"):
        ask([], f"grpc://127.0.0.1:{port}")
    server.stop(0).wait()


@pytest.mark.parametrize(
    ("package", "said"),
    [("tenacity", "tenacity"), ("anyio", "anyio"), ("tritonclient", "tritonclient"), ("grpc", "tritonclient[grpc]")],
)
def test_without_its_packages(package: str, said: str) -> None:
    script = (
        f"import sys\nsys.modules[{package!r}] = None\nimport resnest_client.commands\n"
        "from resnest_core.errors import MissingExtraError\n"
        "try:\n    from resnest_client import GrpcDetector\n    GrpcDetector()\n"
        "except MissingExtraError as error:\n    print(error)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == f"{said} is not installed: run pip install 'resnest-serving[client]'.\n"
