"""The size of a file, wherever in it it stands."""

from __future__ import annotations

import asyncio

import pytest

from resnest_core.errors import ImageTooLargeError, NotAnImageError
from resnest_server.encoded_image import EncodedImage, read_size
from resnest_server.off_loop import INLINE_BYTES
from tests.server.conftest import picture

JPEG = picture()
COMMENT = b"\xff\xfe\xff\xff" + bytes(0xFFFF - 2)  # as long as a segment can be


def size_of(data: bytes, max_pixels: int = 10**6) -> EncodedImage:
    return asyncio.run(read_size(data, max_pixels))


@pytest.mark.parametrize("comments", [0, 1, 3], ids=lambda count: f"{count} comments")
def test_long_comments_stand_before_the_size(comments: int) -> None:
    data = JPEG[:2] + COMMENT * comments + JPEG[2:] + bytes(INLINE_BYTES)
    assert size_of(data) == EncodedImage(data, size_of(JPEG).pixels)


def test_a_long_file_is_refused_as_a_short_one() -> None:
    with pytest.raises(ImageTooLargeError, match="more than the 10 allowed"):
        size_of(JPEG + bytes(INLINE_BYTES), max_pixels=10)
    with pytest.raises(NotAnImageError, match="Git LFS"):
        size_of(b"version https://git-lfs.github.com/spec/v1\n" + bytes(INLINE_BYTES))
    with pytest.raises(NotAnImageError):
        size_of(JPEG[:2] + b"\xff\xfe\0\2" * INLINE_BYTES)
