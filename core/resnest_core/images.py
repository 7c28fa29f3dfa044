"""Image bytes to RGB pixels."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]
"""RGB, uint8 (H, W, 3)."""
Image: TypeAlias = bytes | str | Path | Pixels
"""Encoded bytes, a path to them, or RGB pixels."""

MAX_PIXELS = 64_000_000


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    raise NotImplementedError


def load_image(image: Image, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    raise NotImplementedError
