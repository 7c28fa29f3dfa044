"""Categories of benchmark errors."""

from __future__ import annotations

import threading
from collections.abc import Callable

import grpc  # type: ignore[import-untyped]
import pytest

from resnest_client import GrpcDetector, HttpDetector
from resnest_client.bench.error_categories import category_of
from resnest_core.errors import (
    AccessError,
    ImageTooLargeError,
    ModelNotFoundError,
    NotAnImageError,
    OverloadedError,
    ParameterError,
    RemoteError,
    RuntimeUnavailableError,
    TimedOutError,
    UnreachableError,
)
from resnest_core.runtimes import FakeRuntime
from tests.client.client_variants import pixels
from tests.client.fake_triton import UNAVAILABLE, Triton
from tests.client.grpc_variants import once
from tests.client.served import Serve


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NotAnImageError(""), "image"),
        (ImageTooLargeError(""), "image"),
        (ParameterError(""), "parameter"),
        (AccessError(""), "access"),
        (ModelNotFoundError(""), "model"),
        (RemoteError(""), "remote"),
        (OverloadedError("It is full."), "busy"),
        (TimedOutError(""), "timeout"),
        (UnreachableError(""), "unavailable"),
        (RuntimeUnavailableError(""), "unavailable"),
        (ZeroDivisionError(), "other"),
    ],
)
def test_kinds(error: Exception, kind: str) -> None:
    assert category_of(error) == kind


def waiting(event: threading.Event) -> Callable[[object], None]:
    def wait(_: object) -> None:
        event.wait(20)

    return wait


def raised(detector: GrpcDetector | HttpDetector) -> str:
    with pytest.raises(RuntimeUnavailableError) as caught:
        detector.detect(pixels())
    return category_of(caught.value)


def test_a_gateway_that_is_slow_refuses_or_is_gone(serve: Serve) -> None:
    wait = threading.Event()
    served = serve(FakeRuntime(before_run=waiting(wait)), request_seconds=0.2)
    with HttpDetector(served.url, retries=0) as patient, HttpDetector(served.url, retries=0, timeout=0.05) as hasty:
        assert raised(hasty) == "timeout"
        assert raised(patient) == "busy"
        wait.set()
        served.stop()
        assert raised(patient) == "unavailable"


def test_a_triton_that_is_slow_refuses_or_is_gone(fake_triton: Triton) -> None:
    away = grpc.StatusCode.UNAVAILABLE, "failed to connect"
    wait = threading.Event()
    server = fake_triton(FakeRuntime(before_run=waiting(wait)), refuse=once(UNAVAILABLE, away))
    with GrpcDetector(server.url, retries=0, timeout=2) as detector:
        assert [raised(detector) for _ in range(3)] == ["busy", "unavailable", "timeout"]
        wait.set()
        server.stop()
        assert raised(detector) == "unavailable"
