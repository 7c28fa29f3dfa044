"""Shared fixtures of the Triton tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from resnest_core import InProcessDetector, load_detector
from tests.triton.ensemble_requests import PROTOCOLS, Client, asking
from tests.triton.server import REPOSITORY, TritonServer, triton, triton_home, triton_project

__all__ = ["triton", "triton_home", "triton_project"]


@pytest.fixture(params=PROTOCOLS)
def client(request: pytest.FixtureRequest, triton: TritonServer) -> Iterator[Client]:
    with asking(triton, request.param) as client:
        yield client


@pytest.fixture(scope="session")
def local() -> Iterator[InProcessDetector]:
    with load_detector("demo", repository=REPOSITORY) as detector:
        yield detector
