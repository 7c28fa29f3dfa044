"""mmdetection's test-time resize and padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from resnest_core.card import ModelCard
from resnest_core.images import Pixels


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image as the network takes it.

    Attributes:
        pixels: RGB, uint8 (H, W, 3), resized and padded right and bottom; H and W are multiples of the card's divisor.
        image_size_hw: (height, width) of the resized image inside the padding.
        original_size_hw: (height, width) of the image as it came.
    """

    pixels: Pixels
    image_size_hw: tuple[int, int]
    original_size_hw: tuple[int, int]


def resized_size_hw(size_hw: tuple[int, int], test_scale: tuple[int, int]) -> tuple[int, int]:
    raise NotImplementedError


def prepare(pixels: Pixels, card: ModelCard) -> PreparedImage:
    raise NotImplementedError


def stack(images: Sequence[PreparedImage]) -> dict[str, NDArray[Any]]:
    raise NotImplementedError
