"""Selects the shape that an engine runs for a batch: the smallest that holds it and fits a profile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from resnest_core.runtimes.tensorrt.manifest import EngineProfile, ShapeBHW


class Fit(NamedTuple):
    """The index of a profile, and the shape (B, H, W) of `images` to run with it."""

    profile: int
    shape_bhw: ShapeBHW


def nearest(profiles: Sequence[EngineProfile], shape_bhw: ShapeBHW) -> Fit | None:
    """Return the smallest shape, no side smaller than asked, that a profile holds; None: all are too small.

    Of several profiles that hold it, that one is taken whose tuned shape is the nearest in pixels.
    """
    fits = []
    for index, profile in enumerate(profiles):
        if all(size <= high for size, high in zip(shape_bhw, profile.max, strict=True)):
            batch, height, width = (max(pair) for pair in zip(shape_bhw, profile.min, strict=True))
            pixels = batch * height * width
            fits.append((pixels, abs(pixels - math.prod(profile.opt)), index, (batch, height, width)))
    if not fits:
        return None
    _, _, index, shape = min(fits)
    return Fit(index, shape)


def largest_batch(profiles: Sequence[EngineProfile], size_hw: tuple[int, int]) -> int:
    """Return how many images of this padded (height, width) run at once at most; 0: none."""
    height, width = size_hw
    return max((each.max[0] for each in profiles if height <= each.max[1] and width <= each.max[2]), default=0)
