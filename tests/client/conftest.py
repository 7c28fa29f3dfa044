"""What the clients' tests share: no key from outside, waits that take no time, and a gateway on a socket."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from tenacity import AsyncRetrying, Retrying

from resnest_client import async_http_detector, http_detector
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
    monkeypatch.setattr(async_http_detector, "AsyncRetrying", partial(AsyncRetrying, sleep=sleep))
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
