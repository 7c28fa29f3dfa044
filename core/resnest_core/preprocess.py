"""mmdetection's test-time resize and padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from resnest_core import tensors
from resnest_core.buckets import WASTE, Buckets, bucket_size_hw
from resnest_core.card import ModelCard
from resnest_core.errors import ImageTooNarrowError
from resnest_core.images import Pixels

MIN_SIDE = 32  # pixels of the network's input: its last map, of stride 32, has one then


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image prepared as the network's input.

    Attributes:
        pixels: RGB, uint8 (H, W, 3), resized and padded right and bottom; H and W are multiples of the card's divisor.
        image_size_hw: (height, width) of the resized image inside the padding.
        original_size_hw: (height, width) of the original image.
    """

    pixels: Pixels
    image_size_hw: tuple[int, int]
    original_size_hw: tuple[int, int]


def resized_size_hw(size_hw: tuple[int, int], card: ModelCard) -> tuple[int, int]:
    """Return the (height, width) that an image is resized to: fitted into the card's test scale, rounded as mmcv does.

    Without `keep_ratio` that is the test scale itself.
    """
    if card.fixed_size_hw:
        return card.fixed_size_hw
    test_scale = card.test_scale
    height, width = size_hw
    scale = min(max(test_scale) / max(size_hw), min(test_scale) / min(size_hw))
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def prepare(pixels: Pixels, card: ModelCard, buckets: Buckets = Buckets.EXACT, waste: float = WASTE) -> PreparedImage:
    """Resize an image (H, W, 3) to the card's test scale and pad it: to a multiple of its divisor, or to a bucket.

    A bucket with more than `waste` times the image's own padded area isn't used.

    Raises:
        ImageTooNarrowError: the image is so narrow that the network, which pads it little, has no map of it.
    """
    original = pixels.shape[0], pixels.shape[1]
    height, width = resized_size_hw(original, card)
    size_hw = bucket_size_hw((height, width), card, buckets, waste)
    if min(size_hw) < MIN_SIDE:
        raise ImageTooNarrowError(
            f"An image of {original[1]}×{original[0]} pixels becomes {width}×{height} for this model, which needs "
            f"{MIN_SIDE} on each side: send one that is less narrow."
        )
    padded = np.empty((*size_hw, 3), np.uint8)
    padded[height:], padded[:height, width:] = 0, 0
    cv2.resize(pixels, (width, height), dst=padded[:height, :width], interpolation=cv2.INTER_LINEAR)
    return PreparedImage(padded, (height, width), original)


def stack(images: Sequence[PreparedImage]) -> dict[str, NDArray[Any]]:
    """Return the network's input tensors for a batch, padded to its largest image; a single image isn't copied.

    Split attention pools over the padding too, so further padding changes scores slightly: batch images of equal padded
    shape.
    """
    height, width = (max(image.pixels.shape[axis] for image in images) for axis in (0, 1))
    if len(images) == 1:
        batch = images[0].pixels[None]
    else:
        batch = np.zeros((len(images), height, width, 3), np.uint8)
        for row, image in zip(batch, images, strict=True):
            row[: image.pixels.shape[0], : image.pixels.shape[1]] = image.pixels
    return {
        tensors.IMAGES: batch,
        tensors.IMAGE_SIZES: np.array([image.image_size_hw for image in images], np.int64),
        tensors.ORIGINAL_SIZES: np.array([image.original_size_hw for image in images], np.int64),
    }
