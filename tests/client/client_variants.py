"""Both HTTP clients behind one function, so that each test covers both."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import pytest
from numpy.typing import NDArray

from resnest_client import AsyncHttpDetector, HttpDetector
from resnest_core.card import ModelCard
from resnest_core.detections import Detections
from resnest_core.images import Image

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


class Ask(Protocol):
    """Detects in each image with a client of its own kind; returns the card too."""

    def __call__(
        self, images: Iterable[Image], url: str = URL, model: str | None = None, **options: Any
    ) -> tuple[ModelCard, list[Detections]]: ...


def split(options: dict[str, Any]) -> dict[str, Any]:
    """Take out of the options those of `detect`."""
    return {key: options.pop(key) for key in ("score_threshold", "masks") if key in options}


def waits(
    images: Iterable[Image], url: str = URL, model: str | None = None, **options: Any
) -> tuple[ModelCard, list[Detections]]:
    wishes = split(options)
    with HttpDetector(url, model, **options) as detector:
        return detector.card, [detector.detect(image, **wishes) for image in images]


def awaits(
    images: Iterable[Image], url: str = URL, model: str | None = None, **options: Any
) -> tuple[ModelCard, list[Detections]]:
    wishes = split(options)

    async def run() -> tuple[ModelCard, list[Detections]]:
        async with AsyncHttpDetector(url, model, **options) as detector:
            return detector.card, [await detector.detect(image, **wishes) for image in images]

    return asyncio.run(run())


both = pytest.mark.parametrize("ask", [waits, awaits])
