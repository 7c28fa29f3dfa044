"""The HTTP clients return the same detections and raise the same errors as the in-process detector."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import resnest_client
from resnest_client import HttpDetector
from resnest_client.gateway_protocol import PROBLEMS
from resnest_core.detector import Detector, InProcessDetector
from resnest_core.drawing import encode
from resnest_core.errors import (
    ForbiddenError,
    ImageTooLargeError,
    ImageTooNarrowError,
    ModelNotFoundError,
    NotAnImageError,
    NotOpenError,
    OverloadedError,
    ParameterError,
    RateLimitedError,
    RemoteError,
    ResNeStError,
    RuntimeUnavailableError,
    TimedOutError,
    UnauthorizedError,
    UnreachableError,
)
from resnest_core.runtimes import FakeRuntime
from resnest_core.runtimes.fake import FAKE_CARD
from resnest_server import problems
from tests.client.client_variants import URL, Ask, assert_same, both, pixels
from tests.client.gateway import Gateway, problem


@both
@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(0, 12),
    has_masks=st.booleans(),
    want_masks=st.booleans(),
    threshold=st.none() | st.floats(0, 1),
    size_hw=st.tuples(st.integers(1, 80), st.integers(1, 80)),
)
def test_as_in_the_process(
    ask: Ask, count: int, has_masks: bool, want_masks: bool, threshold: float | None, size_hw: tuple[int, int]
) -> None:
    card = FAKE_CARD if has_masks else FAKE_CARD.model_copy(update={"mask_size": None})
    runtime = FakeRuntime(card, count=count)
    local: Detector = InProcessDetector(runtime)
    image = pixels(*size_hw)
    found_card, (found,) = ask([image], transport=Gateway(runtime), score_threshold=threshold, masks=want_masks)
    assert found_card == card
    assert_same(found, local.detect(image, score_threshold=threshold, masks=want_masks))


def test_it_is_a_detector() -> None:
    with HttpDetector(URL, transport=Gateway()) as remote:
        detector: Detector = remote
        assert detector.card == FAKE_CARD


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


@pytest.mark.parametrize("name", ["absent", "a/b?c#d", "../models"])
def test_no_such_model(name: str) -> None:
    gateway = Gateway()
    with pytest.raises(ModelNotFoundError, match=r"There is no such model\."):
        HttpDetector(URL, name, transport=gateway)
    assert len(gateway.requests) == 1
    assert not gateway.requests[0].url.query


@both
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(400, "not-an-image"), NotAnImageError),
        (problem(415, "unsupported-media-type"), NotAnImageError),
        (problem(413, "image-too-large"), ImageTooLargeError),
        (problem(413, "body-too-large"), ImageTooLargeError),
        (problem(404, "model-not-found"), ModelNotFoundError),
        (problem(422, "image-too-narrow"), ImageTooNarrowError),
        (problem(422, "bad-parameter"), ParameterError),
        (problem(503, "unavailable"), OverloadedError),
        (problem(408, "slow-body"), TimedOutError),
        (problem(401, "unauthorized"), UnauthorizedError),
        (problem(429, "rate-limited"), RateLimitedError),
        (problem(500, "internal"), RemoteError),
        (problem(429, "of-tomorrow"), RateLimitedError),
        (problem(401, "of-tomorrow"), UnauthorizedError),
        (problem(503, "of-tomorrow"), OverloadedError),
        (problem(418, "of-tomorrow"), RemoteError),
    ],
)
def test_problems_become_the_errors_of_the_process(ask: Ask, answer: httpx.Response, error: type[ResNeStError]) -> None:
    with pytest.raises(ResNeStError, match=r"^Do it otherwise\.$") as caught:
        ask([pixels()], transport=Gateway(intercept=lambda _: answer), retries=0)
    assert type(caught.value) is error


def test_every_problem_of_the_gateway_is_known() -> None:
    known = {slug for _, slug in problems.PROBLEMS.values()}
    assert PROBLEMS.keys() == known


@both
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(500, text="oh"), RemoteError),
        (httpx.Response(502, text="<html>"), UnreachableError),
        (httpx.Response(503, json=[]), OverloadedError),
        (httpx.Response(403, text="<html>"), ForbiddenError),
        (httpx.Response(504, text="<html>"), TimedOutError),
        (httpx.Response(404, json={"detail": "Not Found"}), RemoteError),
        (httpx.Response(301, headers={"Location": "/elsewhere"}), RemoteError),
        (httpx.Response(200, text="hello"), RemoteError),
        (httpx.Response(200, json={"detections": 3}), RemoteError),
        (httpx.Response(200, json=[]), RemoteError),
    ],
)
def test_answers_of_something_else(ask: Ask, answer: httpx.Response, error: type[ResNeStError]) -> None:
    with pytest.raises(error):
        ask([pixels()], transport=Gateway(intercept=lambda _: answer), retries=0)


@both
@pytest.mark.parametrize(
    "content", [b"hello", b"[]", b"{}", b"3", b"null", b'{"default": "fake"}', b'{"default": null, "models": []}']
)
def test_something_else_at_the_address(ask: Ask, content: bytes) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=content))
    with pytest.raises(RemoteError, match="not a gateway of this project: check the address"):
        ask([], transport=transport)


@both
@pytest.mark.parametrize("failure", [httpx.ReadTimeout, httpx.WriteTimeout])
def test_no_answer_in_time(ask: Ask, failure: type[httpx.TransportError]) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise failure("")

    with pytest.raises(TimedOutError, match="gateway didn't answer in time"):
        ask([pixels()], transport=Gateway(intercept=fail), retries=0)


@both
@pytest.mark.parametrize(("header", "seconds"), [({"Retry-After": "7"}, 7.0), ({}, None)])
def test_when_to_come_back(ask: Ask, header: dict[str, str], seconds: float | None) -> None:
    answer = problem(429, "rate-limited")
    answer.headers.update(header)
    with pytest.raises(RateLimitedError) as caught:
        ask([pixels()], transport=Gateway(intercept=lambda _: answer), retries=0)
    assert caught.value.retry_after == seconds


@both
@pytest.mark.parametrize("failure", [httpx.ConnectError, httpx.ConnectTimeout, httpx.RemoteProtocolError])
def test_lost_connections(ask: Ask, failure: type[httpx.TransportError]) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise failure("")

    with pytest.raises(UnreachableError, match=f"gateway can't be reached: {failure.__name__}"):
        ask([pixels()], transport=Gateway(intercept=fail), retries=0)


@both
def test_nobody_listens(ask: Ask) -> None:
    with pytest.raises(RuntimeUnavailableError, match="can't be reached"):
        ask([], "http://127.0.0.1:9", retries=0)


@both
@pytest.mark.parametrize("url", ["localhost:8000", "grpc://localhost:8001", "http://", "", "http://host:port"])
def test_addresses_that_are_none(ask: Ask, url: str) -> None:
    with pytest.raises(ParameterError, match="is not an address"):
        ask([], url)


@both
@pytest.mark.parametrize("option", [{"retries": -1}, {"timeout": 0}, {"timeout": float("nan")}, {"max_concurrency": 0}])
def test_options_outside_what_they_may_be(ask: Ask, option: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=f"{next(iter(option))} must be"):
        ask([], transport=Gateway(), **option)


@both
def test_a_password_in_the_address_is_not_told(ask: Ask) -> None:
    for answer in (httpx.Response(500, text="oh"), httpx.Response(200, text="hello"), problem(418, "teapot", "No.")):
        with pytest.raises(RemoteError) as caught:
            ask([pixels()], "http://me:secret@gateway", transport=Gateway(intercept=lambda _: answer))  # noqa: B023
        assert "secret" not in str(caught.value)


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
    assert [request.method for request in gateway.requests] == ["GET"], "only the card was asked for"


@pytest.mark.parametrize("package", ["httpx", "tenacity"])
def test_without_its_packages(package: str) -> None:
    script = (
        f"import sys\nsys.modules[{package!r}] = None\nimport resnest_client.commands\n"
        "from resnest_core.errors import MissingExtraError\n"
        "try:\n    from resnest_client import HttpDetector\nexcept MissingExtraError as error:\n    print(error)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == f"{package} is not installed: run pip install 'resnest-serving[client]'.\n"


def test_the_package_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'AbacusDetector'"):
        resnest_client.AbacusDetector  # noqa: B018


@pytest.mark.parametrize(
    "use", [lambda detector: detector.close(), lambda detector: detector.__exit__(None, None, None)]
)
def test_closing(use: Callable[[HttpDetector], None]) -> None:
    detector = HttpDetector(URL, transport=Gateway())
    use(detector)
    with pytest.raises(NotOpenError, match="closed"):
        detector.detect(pixels())
