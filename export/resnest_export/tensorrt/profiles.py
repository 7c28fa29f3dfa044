"""Optimisation profiles: which shapes of images an engine runs, and which it is tuned for."""

from __future__ import annotations

from resnest_core.buckets import COMMON_RATIO_HW, Buckets, bucket_size_hw, bucket_sizes_hw, padded_sizes_hw
from resnest_core.card import ModelCard
from resnest_core.preprocess import resized_size_hw
from resnest_core.runtimes.tensorrt.manifest import EngineProfile


def profiles(card: ModelCard, buckets: Buckets, max_batch: int) -> tuple[EngineProfile, ...]:
    """Return the profiles of an engine: for lying and for standing images one of a single image, one of a batch.

    Each holds all buckets of its orientation and is tuned for a photograph of 4:3. Without buckets, that is `exact`,
    it holds every shape that an image can be padded to.

    Args:
        card: of the model.
        buckets: that images are padded to.
        max_batch: images of a batch, at most; batches are tuned for so many.
    """
    sizes_hw = bucket_sizes_hw(card, buckets) or padded_sizes_hw(card, buckets)
    found: list[EngineProfile] = []
    for common in (COMMON_RATIO_HW, COMMON_RATIO_HW[::-1]):
        height, width = bucket_size_hw(resized_size_hw(common, card), card, buckets)
        shapes = [hw for hw in sizes_hw if (hw[0] <= hw[1]) == (common == COMMON_RATIO_HW)]
        heights, widths = zip(*shapes, (height, width), strict=True)
        for first, most in ((1, 1), (2, max_batch)):
            if first <= most:
                found.append(
                    EngineProfile(
                        min=(first, min(heights), min(widths)),
                        opt=(most, height, width),
                        max=(most, max(heights), max(widths)),
                    )
                )
    return tuple(found)
