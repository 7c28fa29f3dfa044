"""Buckets: a small set of padded shapes, so that images of many shapes can share a batch.

Split attention pools over the padding too, so an image in a larger bucket gets slightly different scores, as in a batch
in mmdetection.
"""

from __future__ import annotations

from enum import Enum

from resnest_core.card import ModelCard

COMMON_RATIO_HW = (3, 4)  # of a photograph: the shape to warm up with, and to tune for
WASTE = 1.5
"""A bucket with more than so many times an image's own padded area isn't used: panoramas keep their shape."""


class Buckets(str, Enum):
    """Shapes that images are padded to."""

    EXACT = "exact"
    """Each image is padded to the next multiple of the divisor: same detections as mmdetection for a single image."""
    RATIOS = "ratios"
    """Shapes of 1:1, 4:3, 3:2 and the test scale, in landscape and portrait."""
    LANDSCAPE_PORTRAIT = "landscape-portrait"
    """The test scale, in landscape and portrait."""


LONG_TO_SHORT: dict[Buckets, tuple[float, ...]] = {
    Buckets.EXACT: (),
    Buckets.RATIOS: (1, 4 / 3, 3 / 2),
    Buckets.LANDSCAPE_PORTRAIT: (),
}


def bucket_sizes_hw(card: ModelCard, buckets: Buckets) -> list[tuple[int, int]]:
    """Return the buckets' (height, width), smallest area first, landscape before portrait; none for `exact`."""
    if buckets is Buckets.EXACT:
        return []
    long, short = max(card.test_scale), min(card.test_scale)
    longs = {min(int(short * ratio + 0.5), long) for ratio in LONG_TO_SHORT[buckets]} | {long}
    lying = [_padded((short, side), card.size_divisor) for side in sorted(longs)]
    return list(dict.fromkeys(size for height, width in lying for size in ((height, width), (width, height))))


def bucket_size_hw(
    size_hw: tuple[int, int], card: ModelCard, buckets: Buckets, waste: float = WASTE
) -> tuple[int, int]:
    """Return the (height, width) that a resized image of `size_hw` is padded to; see WASTE for `waste`."""
    height, width = exact = _padded(size_hw, card.size_divisor)
    for bucket in bucket_sizes_hw(card, buckets):
        if height <= bucket[0] and width <= bucket[1]:
            return bucket if bucket[0] * bucket[1] <= waste * height * width else exact
    return exact


def padded_sizes_hw(card: ModelCard, buckets: Buckets, waste: float = WASTE) -> list[tuple[int, int]]:
    """Return every (height, width) that images of any shape may be padded to, smallest area first."""
    long, short = _padded((max(card.test_scale), min(card.test_scale)), card.size_divisor)
    steps = range(card.size_divisor, long + 1, card.size_divisor)
    # A resized image reaches the test scale with its longer or its shorter side.
    lying = [(side, long) for side in steps if side <= short] + [(short, side) for side in steps if side >= short]
    exact = [*lying, *((width, height) for height, width in lying)]
    sizes = {bucket_size_hw(size, card, buckets, waste) for size in exact}
    return sorted(sizes, key=lambda size: (size[0] * size[1], size))


def _padded(size_hw: tuple[int, int], divisor: int) -> tuple[int, int]:
    height, width = (side + -side % divisor for side in size_hw)
    return height, width
