"""Detections and masks shared by the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from resnest_core.detections import Detections
from resnest_core.errors import ImageError
from resnest_core.images import decode_image
from resnest_core.runtimes.fake import FAKE_CARD

DATA = Path(__file__).parents[1] / "data"
MASK_SIZE = 28
CARD = FAKE_CARD.model_copy(update={"category_ids": (1, 13, 90)})

seeds = st.integers(0, 2**32 - 1)


def golden(path: Path) -> Detections:
    """Return what mmdetection found, with its mask probabilities rounded to 1/255."""
    with np.load(path) as arrays:
        return Detections(
            boxes_xyxy=arrays["boxes"],
            scores=arrays["scores"],
            labels=arrays["labels"],
            masks=(arrays["mask_probabilities"] / np.float32(255)).astype(np.float16),
            image_size_hw=(int(arrays["image_size_hw"][0]), int(arrays["image_size_hw"][1])),
        )


def random_mask(rng: np.random.Generator) -> NDArray[np.float16]:
    """Return a map of a few blobs, some reaching its edges, some with holes; now and then all 0, all 1 or noise."""
    kind = rng.integers(10)
    if kind < 2:
        return np.full((MASK_SIZE, MASK_SIZE), kind, np.float16)
    if kind == 2:
        return rng.random((MASK_SIZE, MASK_SIZE)).astype(np.float16)
    y, x = np.mgrid[:MASK_SIZE, :MASK_SIZE]
    waves = sum(np.cos(rng.uniform(0, 0.6) * x + rng.uniform(0, 0.6) * y + rng.uniform(0, 6)) for _ in range(4))
    probabilities: NDArray[np.float16] = (1 / (1 + np.exp(-3 * waves))).astype(np.float16)
    return probabilities


def random_boxes(rng: np.random.Generator, count: int, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Return boxes x1 y1 x2 y2 inside the image; many touch its edges, a few have no area."""
    height, width = size_hw
    corners = rng.uniform(-0.3, 1.3, (count, 2, 2)).clip(0, 1) * [width, height]
    return np.concatenate([corners.min(1), corners.max(1)], axis=1).astype(np.float32)


def random_detections(seed: int, *, count: int = 5, classes: int = 3, masks: bool = True) -> Detections:
    """Return detections in an image of up to 60×60 pixels."""
    rng = np.random.default_rng(seed)
    size_hw = int(rng.integers(1, 60)), int(rng.integers(1, 60))
    maps = np.array([random_mask(rng) for _ in range(count)], np.float16).reshape(-1, MASK_SIZE, MASK_SIZE)
    return Detections(
        boxes_xyxy=random_boxes(rng, count, size_hw),
        scores=np.sort(rng.random(count).astype(np.float32))[::-1],
        labels=rng.integers(0, classes, count),
        masks=maps if masks else None,
        image_size_hw=size_hw,
    )


def check_decoding(data: bytes) -> None:
    """Decode an image that may be damaged: what comes is pixels, at most 50,000, or an error of one sentence."""
    try:
        pixels = decode_image(data, max_pixels=50_000)
    except ImageError as error:
        assert "\n" not in str(error) and str(error).endswith(".")
        return
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and 0 < pixels.size <= 150_000
