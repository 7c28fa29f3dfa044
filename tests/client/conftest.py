"""Shared fixtures of the client tests: no API key from the environment, no waiting, and servers on sockets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from tenacity import AsyncRetrying, Retrying

from resnest_client import async_grpc_detector, async_http_detector, http_detector
from tests.client.fake_triton import FakeTriton, Triton
from tests.client.served import Serve, Served


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESNEST_API_KEY", raising=False)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that clients would have waited before they asked again."""
    seconds: list[float] = []

    async def sleep(time: float) -> None:
        seconds.append(time)

    monkeypatch.setattr(http_detector, "Retrying", partial(Retrying, sleep=seconds.append))
    for module in (async_http_detector, async_grpc_detector):
        monkeypatch.setattr(module, "AsyncRetrying", partial(AsyncRetrying, sleep=sleep))
    return seconds


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that starts a gateway: `serve(runtime, setting=value)`."""
    started: list[Served] = []

    def start(*runtimes: object, **settings: object) -> Served:
        started.append(Served(*runtimes, **settings))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for served in started:
        served.stop()


@pytest.fixture
def fake_triton() -> Iterator[Triton]:
    """Return a function that starts a Triton: `fake_triton(runtime, refuse=…)`."""
    started: list[FakeTriton] = []

    def start(*runtimes: object, **options: object) -> FakeTriton:
        started.append(FakeTriton(*runtimes, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for server in started:
        server.stop()
