"""Both gRPC clients behind one function, so that each test covers both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from resnest_client import AsyncGrpcDetector, GrpcDetector
from resnest_core.card import ModelCard
from resnest_core.detections import Detections
from resnest_core.images import Image
from tests.client.client_variants import split
from tests.client.fake_triton import Refusal

PATIENCE = 10  # seconds
Ask = Callable[..., tuple[ModelCard, list[Detections]]]


def waits(images: Iterable[Image], url: str, model: str | None = None, **options: Any) -> Any:
    wishes = split(options)
    with GrpcDetector(url, model, **options) as detector:
        return detector.card, list(detector.detect_many(images, **wishes))


def awaits(images: Iterable[Image], url: str, model: str | None = None, **options: Any) -> Any:
    wishes = split(options)

    async def run() -> tuple[ModelCard, list[Detections]]:
        async with AsyncGrpcDetector(url, model, **options) as detector:
            return detector.card, [found async for found in detector.detect_many(images, **wishes)]

    return asyncio.run(run())


both = pytest.mark.parametrize("ask", [waits, awaits])


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def slow(_: object) -> None:
    time.sleep(0.02)


def once(*refusals: Refusal) -> Callable[[int], Refusal | None]:
    """Refuse the first detections."""
    return lambda number: refusals[number - 1] if number <= len(refusals) else None
