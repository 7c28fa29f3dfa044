"""A gateway on the fake runtime, and images to send."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from fastapi.testclient import TestClient

from resnest_core.detector import InProcessDetector
from resnest_core.drawing import encode
from resnest_core.runtimes import FakeRuntime
from resnest_server import Settings, create_app
from resnest_server.engines import LocalEngine


def picture(height: int = 40, width: int = 60, media_type: str = "image/jpeg") -> bytes:
    """Return an encoded image of noise."""
    return encode(np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8), media_type)


Serve = Callable[..., TestClient]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that starts a gateway: `serve(runtime, …, setting=value)`."""
    clients: list[TestClient] = []

    def start(*runtimes: FakeRuntime, **settings: object) -> TestClient:
        chosen = Settings(**settings)  # type: ignore[arg-type]
        app = create_app(chosen, [LocalEngine(InProcessDetector(runtime), chosen) for runtime in runtimes])
        client = TestClient(app, raise_server_exceptions=False)
        client.__enter__()
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
def client(serve: Serve, runtime: FakeRuntime) -> TestClient:
    return serve(runtime)
