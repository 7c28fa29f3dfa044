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
    if card.fixed_size_hw:
        return [_padded(card.fixed_size_hw, card)]
    long, short = max(card.test_scale), min(card.test_scale)
    longs = {min(int(short * ratio + 0.5), long) for ratio in LONG_TO_SHORT[buckets]} | {long}
    sizes = [size for side in sorted(longs) for size in ((short, side), (side, short))]
    return list(dict.fromkeys(_padded(size, card) for size in sizes))


def bucket_size_hw(
    size_hw: tuple[int, int], card: ModelCard, buckets: Buckets, waste: float = WASTE
) -> tuple[int, int]:
    """Return the (height, width) that a resized image of `size_hw` is padded to; see WASTE for `waste`."""
    height, width = exact = _padded(size_hw, card)
    for bucket in bucket_sizes_hw(card, buckets):
        if height <= bucket[0] and width <= bucket[1]:
            return bucket if bucket[0] * bucket[1] <= waste * height * width else exact
    return exact


def padded_sizes_hw(card: ModelCard, buckets: Buckets, waste: float = WASTE) -> list[tuple[int, int]]:
    """Return every (height, width) that images of any shape may be padded to, smallest area first."""
    long, short = max(card.test_scale), min(card.test_scale)
    if card.fixed_size_hw:
        resized = [card.fixed_size_hw]
    else:
        # An image reaches the test scale with its longer side or with its shorter one.
        steps = [min(side, long) for side in range(card.size_divisor, long + card.size_divisor, card.size_divisor)]
        landscape = [(min(side, short), long) for side in steps] + [(short, max(side, short)) for side in steps]
        resized = [*landscape, *((width, height) for height, width in landscape)]
    sizes = {bucket_size_hw(size, card, buckets, waste) for size in resized}
    return sorted(sizes, key=lambda size: (size[0] * size[1], size))


def _padded(size_hw: tuple[int, int], card: ModelCard) -> tuple[int, int]:
    least = card.pad_size_hw or (0, 0)
    height, width = (max(side, low) for side, low in zip(size_hw, least, strict=True))
    return height + -height % card.size_divisor, width + -width % card.size_divisor
