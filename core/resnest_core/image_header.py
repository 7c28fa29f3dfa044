"""An image's format, size and orientation, read from the first bytes that say them.

Nothing else is parsed: colour profiles, texts and other metadata cost no time, and can't make an image unreadable. Each
function takes a whole file, and raises one of DAMAGED where the header is cut short or damaged.

Sources: ITU-T T.81 (JPEG), the EXIF 2.32 and TIFF 6.0 specifications and BigTIFF's, W3C's PNG, CompuServe's GIF 89a,
RFC 9649 (WebP), and Microsoft's documentation of BITMAPINFOHEADER.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from resnest_core.errors import NotAnImageError

READABLE = "JPEG, PNG, WebP, BMP, TIFF or GIF"
DAMAGED = (LookupError, ValueError, struct.error)
UPRIGHT = 1
CMYK_COMPONENTS = 4

# JPEG markers.
START_OF_SCAN, END_OF_IMAGE, APP1 = 0xDA, 0xD9, 0xE1
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # start of frame, of any coding process
WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
MAX_SEGMENTS = 200_000  # photographs have tens; each costs about a microsecond

# TIFF tags.
WIDTH, HEIGHT, ORIENTATION = 256, 257, 274
TIFF_STARTS = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
SHORT = 3  # a TIFF type: 16 bits, at the start of its value field


class ImageHeader(NamedTuple):
    """What an image's header says, before the image is decoded.

    `size_hw` is height and width as stored, before `orientation`, EXIF's 1…8, is applied. `orientation` and
    `components` are those of JPEG files; other formats leave them at 1 and 0.
    """

    format: str
    size_hw: tuple[int, int]
    orientation: int = UPRIGHT
    components: int = 0


def read_header(data: bytes) -> ImageHeader:
    """Read the header of an encoded image.

    Raises:
        NotAnImageError: the bytes aren't an image of a format that is read here, or the header is damaged.
    """
    read = next((read for start, read in READERS.items() if data.startswith(start)), None)
    if read is None or (data.startswith(b"RIFF") and data[8:12] != b"WEBP"):
        raise NotAnImageError(f"This is not an image: send a {READABLE} file.")
    try:
        header = read(data)
    except DAMAGED as error:
        raise NotAnImageError(f"The image's header is damaged: send a whole {READABLE} file.") from error
    if not all(side > 0 for side in header.size_hw):
        raise NotAnImageError(f"The {header.format} file's header tells of no pixels: send a whole file.")
    return header


def _jpeg(data: bytes) -> ImageHeader:
    size_hw, components, orientation = None, 0, UPRIGHT
    has_exif = False
    position = 2
    for _ in range(MAX_SEGMENTS):
        position = data.index(b"\xff", position)  # other bytes between segments are skipped
        marker = data[position + 1]
        if marker in (0x00, 0xFF):  # a stuffed byte; a fill byte
            position += 1
            continue
        if marker in (START_OF_SCAN, END_OF_IMAGE):
            break
        if marker in WITHOUT_LENGTH:
            position += 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        content = position + 4
        if marker in FRAMES and size_hw is None:
            height, width, components = struct.unpack_from(">HHB", data, content + 1)
            size_hw = height, width
        elif marker == APP1 and not has_exif and data[content : content + 6] == b"Exif\0\0":
            has_exif = True
            orientation = _exif_orientation(data[content + 6 : position + 2 + length])
        position += 2 + max(length, 2)
    if size_hw is None:
        raise ValueError("no frame")
    return ImageHeader("JPEG", size_hw, orientation, components)


def _exif_orientation(tiff: bytes) -> int:
    """Return EXIF's orientation, 1…8; upright where there is none or the EXIF is damaged."""
    try:
        value = _tiff_tags(tiff, (ORIENTATION,)).get(ORIENTATION, UPRIGHT)
    except DAMAGED:
        return UPRIGHT
    return value if value in range(1, 9) else UPRIGHT


def _tiff(data: bytes) -> ImageHeader:
    tags = _tiff_tags(data, (WIDTH, HEIGHT))
    return ImageHeader("TIFF", (tags[HEIGHT], tags[WIDTH]))


def _tiff_tags(data: bytes, wanted: tuple[int, ...]) -> dict[int, int]:
    """Return the values of tags of one number each in the first directory of a TIFF file."""
    order, is_big = TIFF_STARTS[data[:4]]
    start = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", data, 8 if is_big else 4)[0]
    if start >= len(data):
        raise ValueError("the directory is beyond the end")
    if is_big:
        (count,) = struct.unpack_from(f"{order}Q", data, start)
        entry, first = [("tag", "u2"), ("type", "u2"), ("count", "u8"), ("value", "V8")], start + 8
    else:
        (count,) = struct.unpack_from(f"{order}H", data, start)
        entry, first = [("tag", "u2"), ("type", "u2"), ("count", "u4"), ("value", "V4")], start + 2
    dtype = np.dtype([(name, kind if kind[0] == "V" else order + kind) for name, kind in entry])
    # A directory that is cut short still has the entries that are there.
    count = min(count, max(len(data) - first, 0) // dtype.itemsize)
    entries = np.frombuffer(data, dtype, count, first)
    found: dict[int, int] = {}
    for row in entries[np.isin(entries["tag"], wanted)][: len(wanted) * 2]:
        form = "H" if row["type"] == SHORT else "I"
        found.setdefault(int(row["tag"]), struct.unpack_from(f"{order}{form}", bytes(row["value"]))[0])
    return found


def _png(data: bytes) -> ImageHeader:
    length, name, width, height = struct.unpack_from(">I4sII", data, 8)
    if (length, name) != (13, b"IHDR"):
        raise ValueError("no IHDR")
    return ImageHeader("PNG", (height, width))


def _gif(data: bytes) -> ImageHeader:
    width, height = struct.unpack_from("<HH", data, 6)
    return ImageHeader("GIF", (height, width))


def _bmp(data: bytes) -> ImageHeader:
    (size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", data, 18)
    return ImageHeader("BMP", (abs(height), abs(width)))  # a negative height: the first row is the top one


def _webp(data: bytes) -> ImageHeader:
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        if len(data) < 30:
            raise ValueError("cut short")
    elif kind == b"VP8L":
        signature, bits = struct.unpack_from("<BI", data, 20)
        if signature != 0x2F:
            raise ValueError("no signature")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        code, width, height = struct.unpack_from("<3sHH", data, 23)
        if code != b"\x9d\x01\x2a":
            raise ValueError("no start code")
        width, height = width & 0x3FFF, height & 0x3FFF
    else:
        raise ValueError("no image")
    return ImageHeader("WEBP", (height, width))


READERS: dict[bytes, Callable[[bytes], ImageHeader]] = {
    b"\xff\xd8\xff": _jpeg,
    b"\x89PNG\r\n\x1a\n": _png,
    b"RIFF": _webp,
    b"BM": _bmp,
    b"GIF8": _gif,
    **dict.fromkeys(TIFF_STARTS, _tiff),
}
"""Readers by the bytes that files of a format begin with."""
