"""Optimization profiles: the image shapes that an engine supports and those that it is tuned for."""

from __future__ import annotations

from resnest_core.buckets import COMMON_RATIO_HW, Buckets, bucket_size_hw, bucket_sizes_hw, padded_sizes_hw
from resnest_core.card import ModelCard
from resnest_core.preprocess import resized_size_hw
from resnest_core.runtimes.tensorrt.manifest import EngineProfile


def profiles(card: ModelCard, buckets: Buckets, max_batch: int) -> tuple[EngineProfile, ...]:
    """Return an engine's profiles: for landscape and for portrait images, one for single images and one for batches.

    Each covers all buckets of its orientation and is tuned for a 4:3 photograph. With `exact`, which has no buckets, it
    covers every shape that an image can be padded to.

    Args:
        card: the model's card.
        buckets: shapes that images are padded to.
        max_batch: largest batch, in images; the batch profiles are tuned for it.
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
