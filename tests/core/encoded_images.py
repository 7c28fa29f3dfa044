"""Image files that tests make: TIFF directories, chunks of PNG, segments of JPEG."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from tests.core.examples import DATA

PICTURE = PIL.Image.open(DATA / "parity" / "images" / "311303_small.jpg").convert("RGB").resize((96, 64))
PIXELS: NDArray[np.uint8] = np.asarray(PICTURE)
SHORT, LONG, LONG8 = 3, 4, 16
FORMS = {1: "B", SHORT: "H", LONG: "I", LONG8: "Q"}
Tags: TypeAlias = dict[int, tuple[int, list[int]]]
Order: TypeAlias = Literal["<", ">"]


def encoded(picture: PIL.Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.copy().save(buffer, kind, **options)  # the copy, because a picture remembers how it was saved
    return buffer.getvalue()


class Page(NamedTuple):
    """An uncompressed image of a TIFF (H, W, bands); `tags` beside or in place of the usual ones, `subs` of its own."""

    pixels: NDArray[Any]
    tags: Tags = {}  # noqa: RUF012 - of a named tuple, which is never changed
    subs: tuple[Page, ...] = ()


def tiff(*pages: Page, order: Order = "<", big: bool = False) -> bytes:
    """Return a TIFF of pages, each with its own directories."""
    file = bytearray((b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42))
    file += struct.pack(f"{order}HHQ", 8, 0, 0) if big else struct.pack(f"{order}I", 0)
    following = 0
    for page in reversed(pages):
        following = _add(file, page, following, order, big)
    struct.pack_into(f"{order}{'Q' if big else 'I'}", file, 8 if big else 4, following)
    return bytes(file)


def _add(file: bytearray, page: Page, following: int, order: Order, big: bool) -> int:
    """Write an image with its directory; return the directory's place."""
    subs = [_add(file, sub, 0, order, big) for sub in page.subs]
    height, width, bands = page.pixels.shape
    data = page.pixels.astype(page.pixels.dtype.newbyteorder(order)).tobytes()
    tags: Tags = {
        256: (SHORT, [width]),
        257: (SHORT, [height]),
        258: (SHORT, [8 * page.pixels.dtype.itemsize] * bands),
        259: (SHORT, [1]),
        262: (SHORT, [2 if bands >= 3 else 1]),
        273: (LONG, [len(file)]),
        277: (SHORT, [bands]),
        278: (SHORT, [height]),
        279: (LONG, [len(data)]),
        339: (SHORT, [{"u": 1, "i": 2, "f": 3, "c": 6}[page.pixels.dtype.kind]] * bands),
    }
    file += data + b"\0" * (len(data) % 2)
    entries = b""
    for tag, (kind, values) in sorted((tags | page.tags | ({330: (LONG, subs)} if subs else {})).items()):
        field = struct.pack(f"{order}{len(values)}{FORMS[kind]}", *values)
        if len(field) > (8 if big else 4):
            place = len(file)
            file += field
            field = struct.pack(f"{order}{'Q' if big else 'I'}", place)
        entries += struct.pack(f"{order}HH{'Q' if big else 'I'}", tag, kind, len(values)) + field.ljust(
            8 if big else 4, b"\0"
        )
    count = len(entries) // (20 if big else 12)
    place = len(file)
    file += (
        struct.pack(f"{order}{'Q' if big else 'H'}", count)
        + entries
        + struct.pack(f"{order}{'Q' if big else 'I'}", following)
    )
    return place


def chunk(name: bytes, content: bytes, *, checksum: bytes | None = None) -> bytes:
    """Return a chunk of a PNG."""
    right = zlib.crc32(name + content).to_bytes(4, "big")
    return struct.pack(">I", len(content)) + name + content + (right if checksum is None else checksum)


def png_with(*chunks: bytes, picture: PIL.Image.Image = PICTURE) -> bytes:
    """Return a PNG with chunks behind its header."""
    data = encoded(picture, "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def segment(marker: int, content: bytes) -> bytes:
    """Return a segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg_with(inserted: bytes, picture: PIL.Image.Image = PICTURE) -> bytes:
    """Return a JPEG with bytes behind its first segment."""
    data = encoded(picture, "JPEG", quality=95)
    place = 4 + int.from_bytes(data[4:6], "big")
    return data[:place] + inserted + data[place:]


def jpeg_of(picture: PIL.Image.Image = PICTURE) -> bytes:
    return encoded(picture, "JPEG", quality=95)
