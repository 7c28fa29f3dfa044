"""An encoded image whose header was read."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import NamedTuple

from resnest_core.errors import NotAnImageError
from resnest_core.image_header import ImageHeader
from resnest_core.images import check_image
from resnest_server.off_loop import INLINE_BYTES, off_loop

HEAD_BYTES = 16 * 1024  # where the size stands in most files; reading them is shorter than the change of threads


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
    check = partial(check_image, max_pixels=max_pixels)
    if len(data) > INLINE_BYTES:
        with suppress(NotAnImageError):
            return _described(data, check(data[:HEAD_BYTES]))
    return _described(data, await off_loop(partial(check, data), len(data)))


def _described(data: bytes, header: ImageHeader) -> EncodedImage:
    height, width = header.size_hw
    return EncodedImage(data, height * width)
