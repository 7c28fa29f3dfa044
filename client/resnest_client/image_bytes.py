"""Encodes images for requests."""

from __future__ import annotations

from pathlib import Path

from resnest_core.drawing import encode
from resnest_core.images import Image, load_image, read_file


def encoded(image: Image) -> bytes:
    """Return the bytes of an encoded image unchanged, and pixels as PNG.

    Raises:
        ImageError: the image can't be used.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        return read_file(image)
    return encode(load_image(image), "image/png")
