"""Retries over gRPC: which calls, how often, until when; and invalid arguments."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest

from resnest_client import AsyncGrpcDetector, GrpcDetector
from resnest_core.errors import (
    ModelNotFoundError,
    NotAnImageError,
    OverloadedError,
    ParameterError,
    RemoteError,
    ResNeStError,
    RuntimeUnavailableError,
    TimedOutError,
)
from tests.client.client_variants import pixels
from tests.client.fake_triton import UNAVAILABLE, Refusal, Triton
from tests.client.grpc_variants import PATIENCE, Ask, both, once


@both
@pytest.mark.parametrize("count", [1, 2])
def test_asked_again(ask: Ask, fake_triton: Triton, count: int, slept: list[float]) -> None:
    server = fake_triton(refuse=once(*[UNAVAILABLE] * count))
    _, (found,) = ask([pixels()], server.url)
    assert len(found) == 3
    assert (server.asked, len(slept)) == (1 + count, count)
    assert all(0 <= seconds <= 0.5 * 2**turn for turn, seconds in enumerate(slept))


@both
@pytest.mark.parametrize("retries", [0, 1, 4])
def test_it_gives_up(ask: Ask, fake_triton: Triton, retries: int, slept: list[float]) -> None:
    server = fake_triton(refuse=lambda _: UNAVAILABLE)
    with pytest.raises(OverloadedError, match="no room for fake now: try again later"):
        ask([pixels()], server.url, retries=retries)
    assert (server.asked, len(slept)) == (1 + retries, retries)


@both
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, NotAnImageError),
        (grpc.StatusCode.NOT_FOUND, ModelNotFoundError),
        (grpc.StatusCode.INTERNAL, RemoteError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, RuntimeUnavailableError),
        (grpc.StatusCode.CANCELLED, RuntimeUnavailableError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, RuntimeUnavailableError),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_asked_once(
    ask: Ask, fake_triton: Triton, status: grpc.StatusCode, error: type[ResNeStError], slept: list[float]
) -> None:
    server = fake_triton(refuse=once((status, "no")))
    with pytest.raises(error):
        ask([pixels()], server.url)
    assert (server.asked, slept) == (1, [])


@both
def test_a_time_out_is_of_all_attempts(ask: Ask, fake_triton: Triton, slept: list[float]) -> None:
    def late(_: int) -> Refusal:
        time.sleep(0.4)
        return UNAVAILABLE

    server = fake_triton(refuse=late)
    start = time.monotonic()
    with pytest.raises(RuntimeUnavailableError):
        ask([pixels()], server.url, timeout=1, retries=100)
    assert time.monotonic() - start < 2
    assert server.asked <= 3
    assert len(slept) <= 2


@both
def test_a_server_that_hangs(ask: Ask, fake_triton: Triton, slept: list[float]) -> None:
    release = threading.Event()

    def hang(_: int) -> None:
        release.wait(PATIENCE)

    server = fake_triton(refuse=hang)
    with pytest.raises(TimedOutError, match="didn't answer for fake in time"):
        ask([pixels()], server.url, timeout=0.3)
    release.set()
    assert (server.asked, slept) == (1, [])


@pytest.mark.parametrize("url", ["", "http://host:8001", "grpc://host:x"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ParameterError, match="is not an address of gRPC: use one such as grpc://localhost:8001"):
        GrpcDetector(url)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": -1}, {"retries": -1}, {"max_concurrency": 0}], ids=str)
@pytest.mark.parametrize("kind", [GrpcDetector, AsyncGrpcDetector])
def test_bounds_that_none_could_keep(kind: Callable[..., object], options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=f"{next(iter(options))} must be"):
        kind("grpc://localhost", **options)
