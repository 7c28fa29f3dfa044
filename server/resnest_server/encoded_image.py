"""An encoded image whose header was read."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from resnest_core.images import check_image
from resnest_server.off_loop import off_loop


class EncodedImage(NamedTuple):
    """An image file, and how many pixels it has: what decoding costs."""

    data: bytes
    pixels: int


async def read_size(data: bytes, max_pixels: int) -> EncodedImage:
    """Return an image with its size; nothing is decoded.

    Raises:
        NotAnImageError: the bytes aren't an image of a format that is read here, or the header is damaged.
        ImageTooLargeError: the image has more than `max_pixels`.
    """
    header = await off_loop(partial(check_image, data, max_pixels=max_pixels), len(data))
    height, width = header.size_hw
    return EncodedImage(data, height * width)
