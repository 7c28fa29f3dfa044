"""Encodes images for requests."""

from __future__ import annotations

import numpy as np
import PIL.Image

from resnest_core.drawing import encode
from resnest_core.images import Color, Image, load_image, read_image


def encoded(image: Image, color: Color = "rgb") -> bytes:
    """Return the bytes of an encoded image unchanged, and pixels as PNG.

    Raises:
        ImageError: the image can't be used.
        ParameterError: there is no such order of channels.
    """
    if isinstance(image, np.ndarray | PIL.Image.Image):
        return encode(load_image(image, color=color), "image/png")
    return read_image(image)
