"""The detector over HTTP answers what the one in the process answers, and raises what it raises."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from resnest_client import HttpDetector
from resnest_core.detections import Detections
from resnest_core.detector import Detector, InProcessDetector
from resnest_core.drawing import encode
from resnest_core.errors import (
    ImageTooLargeError,
    MissingExtraError,
    ModelNotFoundError,
    NotAnImageError,
    ParameterError,
    RemoteError,
    ResNeStError,
    RuntimeUnavailableError,
)
from resnest_core.runtimes import FakeRuntime
from resnest_core.runtimes.fake import FAKE_CARD
from tests.client.gateway import Gateway, problem

URL = "http://gateway"


def pixels(height: int = 40, width: int = 60) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def assert_same(found: Detections, expected: Detections) -> None:
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert found.image_size_hw == expected.image_size_hw
    assert (found.masks is None) == (expected.masks is None)
    if found.masks is not None and expected.masks is not None:
        assert found.masks.dtype == np.float16
        np.testing.assert_array_equal(found.masks, expected.masks)


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(0, 12),
    has_masks=st.booleans(),
    want_masks=st.booleans(),
    threshold=st.none() | st.floats(0, 1),
    size_hw=st.tuples(st.integers(1, 80), st.integers(1, 80)),
)
def test_as_in_the_process(
    count: int, has_masks: bool, want_masks: bool, threshold: float | None, size_hw: tuple[int, int]
) -> None:
    card = FAKE_CARD if has_masks else FAKE_CARD.model_copy(update={"mask_size": None})
    runtime = FakeRuntime(card, count=count)
    local: Detector = InProcessDetector(runtime)
    image = pixels(*size_hw)
    with HttpDetector(URL, transport=Gateway(runtime)) as remote:
        over_http: Detector = remote
        assert over_http.card == card
        found = over_http.detect(image, score_threshold=threshold, masks=want_masks)
    assert_same(found, local.detect(image, score_threshold=threshold, masks=want_masks))


@pytest.mark.parametrize("media_type", ["image/png", "image/jpeg"])
def test_encoded_images_are_sent_as_they_are(tmp_path: Path, media_type: str) -> None:
    data = encode(pixels(), media_type)
    path = tmp_path / "a picture"
    path.write_bytes(data)
    gateway = Gateway()
    with HttpDetector(URL, transport=gateway) as detector:
        for image in (data, path, str(path)):
            detector.detect(image)
            sent = gateway.requests[-1]
            assert (sent.content, sent.headers["Content-Type"]) == (data, media_type)


def test_pixels_are_sent_without_loss() -> None:
    gateway = Gateway()
    with HttpDetector(URL, transport=gateway) as detector:
        detector.detect(pixels())
    sent = gateway.requests[-1]
    assert sent.headers["Content-Type"] == "image/png"
    assert sent.content == encode(pixels(), "image/png")


def test_what_is_asked_for() -> None:
    gateway = Gateway()
    with HttpDetector(URL, transport=gateway) as detector:
        detector.detect(pixels(), score_threshold=0.5)
        detector.detect(pixels(), masks=False)
    asked = [dict(request.url.params) for request in gateway.requests[-2:]]
    assert asked == [
        {"score_threshold": "0.5", "max_detections": "100", "masks": "raw", "format": "native"},
        {"score_threshold": "0.05", "max_detections": "100", "masks": "none", "format": "native"},
    ]


@pytest.mark.parametrize("url", [f"{URL}/behind/a/proxy", f"{URL}/behind/a/proxy/"])
def test_a_gateway_below_another_path(url: str) -> None:
    asked: list[str] = []

    def proxy(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, content=FAKE_CARD.model_dump_json())

    HttpDetector(url, "fake", transport=httpx.MockTransport(proxy)).close()
    assert asked == ["/behind/a/proxy/v1/models/fake"]


def test_a_named_model_is_asked_for_by_its_name_only() -> None:
    gateway = Gateway()
    with HttpDetector(URL, "fake", transport=gateway):
        pass
    assert [request.url.path for request in gateway.requests] == ["/v1/models/fake"]


@pytest.mark.parametrize("name", ["absent", "", "a/b?c#d", "../models"])
def test_no_such_model(name: str) -> None:
    gateway = Gateway()
    with pytest.raises(ModelNotFoundError, match=r"There is no such model\."):
        HttpDetector(URL, name, transport=gateway)
    assert len(gateway.requests) == 1
    assert not gateway.requests[0].url.query


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(400, "not-an-image"), NotAnImageError),
        (problem(415, "unsupported-media-type"), NotAnImageError),
        (problem(413, "image-too-large"), ImageTooLargeError),
        (problem(413, "body-too-large"), ImageTooLargeError),
        (problem(404, "model-not-found"), ModelNotFoundError),
        (problem(422, "bad-parameter"), ParameterError),
        (problem(503, "unavailable"), RuntimeUnavailableError),
        (problem(429, "of-tomorrow"), RuntimeUnavailableError),
        (problem(401, "of-tomorrow"), RemoteError),
    ],
)
def test_problems_become_the_errors_of_the_process(answer: httpx.Response, error: type[ResNeStError]) -> None:
    with HttpDetector(URL, transport=Gateway(intercept=lambda _: answer)) as detector:
        with pytest.raises(ResNeStError, match=r"^Do it otherwise\.$") as caught:
            detector.detect(pixels())
        assert type(caught.value) is error


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(500, text="oh"), RemoteError),
        (httpx.Response(502, text="<html>"), RuntimeUnavailableError),
        (httpx.Response(503, json=[]), RuntimeUnavailableError),
        (httpx.Response(404, json={"detail": "Not Found"}), RemoteError),
        (httpx.Response(200, text="hello"), RemoteError),
        (httpx.Response(200, json={"detections": 3}), RemoteError),
        (httpx.Response(200, json=[]), RemoteError),
    ],
)
def test_answers_of_something_else(answer: httpx.Response, error: type[ResNeStError]) -> None:
    with (
        HttpDetector(URL, transport=Gateway(intercept=lambda _: answer)) as detector,
        pytest.raises(error),
    ):
        detector.detect(pixels())


@pytest.mark.parametrize(
    "content", [b"hello", b"[]", b"{}", b"3", b"null", b'{"default": "fake"}', b'{"default": null, "models": []}']
)
def test_something_else_at_the_address(content: bytes) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=content))
    with pytest.raises(RemoteError, match="not a gateway of this project: check the address"):
        HttpDetector(URL, transport=transport)


@pytest.mark.parametrize("failure", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError])
def test_lost_connections(failure: type[httpx.TransportError]) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise failure("")

    with (
        HttpDetector(URL, transport=Gateway(intercept=fail)) as detector,
        pytest.raises(RuntimeUnavailableError, match=f"gateway can't be reached: {failure.__name__}"),
    ):
        detector.detect(pixels())


def test_nobody_listens() -> None:
    with pytest.raises(RuntimeUnavailableError, match="can't be reached"):
        HttpDetector("http://127.0.0.1:9")


@pytest.mark.parametrize("url", ["localhost:8000", "grpc://localhost:8001", "http://", "", "http://host:port"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ParameterError, match="is not an address"):
        HttpDetector(url)


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (b"", NotAnImageError),
        (b"no image", NotAnImageError),
        ("absent.jpg", NotAnImageError),
        ("no\0file.jpg", NotAnImageError),
        (np.zeros((2, 2)), NotAnImageError),
    ],
)
def test_no_images(image: object, error: type[ResNeStError]) -> None:
    gateway = Gateway()
    with HttpDetector(URL, transport=gateway) as detector:
        with pytest.raises(error):
            detector.detect(image)  # type: ignore[arg-type]
        with pytest.raises(ParameterError):
            detector.detect(pixels(), score_threshold=1.5)
    assert all(request.method == "GET" for request in gateway.requests), "nothing was sent"


def test_without_httpx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'resnest-serving\[client\]'"):
        HttpDetector(URL)


@pytest.mark.parametrize(
    "use", [lambda detector: detector.close(), lambda detector: detector.__exit__(None, None, None)]
)
def test_closing(use: Callable[[HttpDetector], None]) -> None:
    detector = HttpDetector(URL, transport=Gateway())
    use(detector)
    with pytest.raises(RuntimeError, match="closed"):
        detector.detect(pixels())
