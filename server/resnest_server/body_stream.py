"""A request's body, block by block: unpacked where it is packed with gzip, and bounded in either form."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, Callable

from fastapi import Request

from resnest_core.errors import NotAnImageError
from resnest_core.messages import shortened
from resnest_server.off_loop import INLINE_BYTES, off_loop
from resnest_server.problems import BodyTooLargeError, UnsupportedMediaTypeError

GZIP = ("gzip", "x-gzip")
GZIP_WINDOW = zlib.MAX_WBITS | 16  # zlib's code for gzip's header and checksum


async def limited_stream(request: Request, limit: int, hold: Callable[[int], None]) -> AsyncGenerator[bytes, None]:
    """Yield the body's bytes as they come, unpacked; `hold` is called with the number of each block.

    Raises:
        UnsupportedMediaTypeError: the body is encoded otherwise than with gzip.
        BodyTooLargeError: there are more than `limit`, packed or not.
        NotAnImageError: what is packed is damaged or cut short.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in (*GZIP, "identity", ""):
        raise UnsupportedMediaTypeError(
            f"A body of the encoding {shortened(encoding)} is not read here: send it with gzip, or as it is."
        )
    error = BodyTooLargeError(f"The body is larger than the {limit:,} bytes allowed: send a smaller image.")
    length = request.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > limit:
        raise error
    unpack = Gunzip() if encoding in GZIP else None
    received = count = 0
    async for packed in request.stream():
        received += len(packed)
        if received > limit:
            raise error
        block = packed
        if unpack and packed:
            left = limit - count + 1
            # A block may unpack to a thousand times its size.
            block = await off_loop(lambda packed=packed, left=left: unpack(packed, left), INLINE_BYTES + 1)  # type: ignore[misc]
        count += len(block)
        if count > limit:
            raise error
        hold(len(block))
        yield block
    if unpack:
        unpack.check_end()


class Gunzip:
    """Unpacks a stream of gzip, of one member or several."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(GZIP_WINDOW)
        self._has_begun = False

    def __call__(self, packed: bytes, most: int) -> bytes:
        """Return what more bytes unpack to, at most so many.

        Raises:
            NotAnImageError: they are damaged.
        """
        blocks: list[bytes] = []
        try:
            while packed and most > 0:
                if self._stream.eof:
                    self._stream = zlib.decompressobj(GZIP_WINDOW)
                self._has_begun = True
                blocks.append(self._stream.decompress(packed, most))
                most -= len(blocks[-1])
                packed = self._stream.unused_data
        except zlib.error as error:
            raise NotAnImageError("The gzip around the body is damaged: send it again, whole.") from error
        return b"".join(blocks)

    def check_end(self) -> None:
        """Raise NotAnImageError if the stream hasn't ended."""
        if not (self._has_begun and self._stream.eof):
            raise NotAnImageError("The gzip around the body is cut short: send it again, whole.")
