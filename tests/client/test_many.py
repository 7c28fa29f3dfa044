"""Every detector, in the process and through servers, takes the same options and gives the same answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from resnest_client import AsyncGrpcDetector, AsyncHttpDetector, GrpcDetector, HttpDetector
from resnest_client.async_detector import AsyncDetector
from resnest_core import Detections, InProcessDetector, NotAnImageError, Tiles, tensors
from resnest_core.errors import ParameterError, ResNeStError
from resnest_core.images import Image
from resnest_core.runtimes import FakeRuntime
from tests.client.fake_triton import Triton
from tests.client.served import Serve

KINDS = ["process", "HTTP", "async HTTP", "gRPC", "async gRPC"]
RGB = np.random.default_rng(0).integers(0, 256, (320, 480, 3), np.uint8)

Call = Callable[..., Any]


@pytest.fixture(params=KINDS)
def call(request: pytest.FixtureRequest, runtime: FakeRuntime, serve: Serve, fake_triton: Triton) -> Call:
    """Return what calls a method of a detector of each kind, and lists what it yields."""
    if request.param == "process":
        return lambda method, *arguments, **options: listed(
            getattr(InProcessDetector(runtime), method)(*arguments, **options)
        )
    url = fake_triton(runtime).url if "gRPC" in request.param else serve(runtime).url
    kind: Any = {
        "HTTP": HttpDetector, "async HTTP": AsyncHttpDetector, "gRPC": GrpcDetector, "async gRPC": AsyncGrpcDetector
    }[request.param]  # fmt: skip

    def ask(method: str, *arguments: Any, **options: Any) -> Any:
        if not issubclass(kind, AsyncDetector):
            with kind(url) as detector:
                return listed(getattr(detector, method)(*arguments, **options))

        async def run() -> Any:
            async with kind(url) as detector:
                asked = getattr(detector, method)(*arguments, **options)
                return await asked if method == "detect" else [each async for each in asked]

        return asyncio.run(run())

    return ask


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


def listed(answer: Any) -> Any:
    return answer if isinstance(answer, Detections) else list(answer)


def test_answers_know_their_model_and_image(call: Call) -> None:
    found = call("detect", RGB)
    assert found.class_names == ["person", "bicycle", "car"] and found.image is RGB
    assert repr(found) == "3 detections in 480×320: 1 person, 1 bicycle, 1 car"
    many = call("detect_many", [RGB, RGB[:300]])
    assert [each.image_size_hw for each in many] == [(320, 480), (300, 480)]
    assert many[0].image is RGB and many[1].card is not None
    assert found.plot().shape == RGB.shape


def test_opencvs_order_of_channels(call: Call, runtime: FakeRuntime) -> None:
    call("detect", RGB)
    call("detect", np.ascontiguousarray(RGB[..., ::-1]), color="bgr")
    call("detect_many", [RGB[..., ::-1]], color="bgr")
    first, *others = (np.asarray(one[tensors.IMAGES]) for one in runtime.calls)
    assert len(others) == 2
    for other in others:
        np.testing.assert_array_equal(other, first)
    with pytest.raises(ParameterError, match="rgb or bgr"):
        call("detect", RGB, color="hsv")


def test_an_image_that_fails_is_yielded_in_its_place(call: Call) -> None:
    images: list[Image] = [RGB, b"no image", RGB, "absent.jpg", RGB]
    answers = call("detect_many", images, on_error="yield", batch_size=2)
    assert [isinstance(answer, Detections) for answer in answers] == [True, False, True, False, True]
    assert all(isinstance(answer, NotAnImageError) for answer in answers[1::2])
    with pytest.raises(ResNeStError):
        call("detect_many", images)
    with pytest.raises(ParameterError, match="batch_size must be at least 1"):
        call("detect_many", images, batch_size=0)


def test_tiles(call: Call) -> None:
    found = call("detect", RGB, tiles=Tiles(200, 0.2), masks=False)
    expected = InProcessDetector(FakeRuntime()).detect(RGB, tiles=Tiles(200, 0.2), masks=False)
    assert found.image_size_hw == (320, 480) and found.image is RGB
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
