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

from resnest_core import heif, jpeg_segments, tiff
from resnest_core.errors import NotAnImageError
from resnest_core.foreign_formats import READABLE, refusal

DAMAGED = (LookupError, ValueError, struct.error)
UPRIGHT = 1
CMYK_COMPONENTS = 4


class ImageHeader(NamedTuple):
    """What an image's header says, before the image is decoded.

    `size_hw` is height and width as stored, before `orientation`, EXIF's 1…8, is applied: that of JPEG files, and of
    TIFF files whose image doesn't say its own. `components` are those of JPEG files. `directory` is the place of a
    TIFF's directory that is decoded, 0 for the first one, and `kind` what is unusual in it. Other formats leave the
    defaults.
    """

    format: str
    size_hw: tuple[int, int]
    orientation: int = UPRIGHT
    components: int = 0
    directory: int = 0
    kind: str | None = None


def media_type(data: bytes) -> str:
    """Return the media type of an encoded image, also of one that others can decode and this process can't.

    Raises:
        NotAnImageError: as `read_header`.
    """
    return f"image/{(heif.heif_format(data) or read_header(data).format).lower()}"


def read_header(data: bytes) -> ImageHeader:
    """Read the header of an encoded image.

    Raises:
        NotAnImageError: the bytes aren't an image of a format that is read here, or the header is damaged.
    """
    if kind := heif.heif_format(data):
        return _heif(data, kind)
    read = next((read for start, read in READERS.items() if data.startswith(start)), None)
    if read is None or (data.startswith(b"RIFF") and data[8:12] != b"WEBP"):
        raise NotAnImageError(refusal(data))
    try:
        header = read(data)
    except DAMAGED as error:
        raise NotAnImageError(f"The image's header is damaged: send a whole {READABLE} file.") from error
    if not all(side > 0 for side in header.size_hw):
        raise NotAnImageError(f"The {header.format} file's header tells of no pixels: send a whole file.")
    return header


def _heif(data: bytes, kind: str) -> ImageHeader:
    if missing := heif.missing_decoder(kind):
        article = "an" if kind == "AVIF" else "a"
        raise NotAnImageError(f"This is {article} {kind} image, and {missing}: send a {READABLE} file.")
    return ImageHeader(kind, heif.size_hw(data, kind))


def _jpeg(data: bytes) -> ImageHeader:
    size_hw, components, orientation = None, 0, UPRIGHT
    has_exif = False
    for marker, start, end in jpeg_segments.segments(data):
        if marker in jpeg_segments.FRAMES and size_hw is None:
            height, width, components = struct.unpack_from(">HHB", data, start + 1)
            size_hw = height, width
        elif marker == jpeg_segments.APP1 and not has_exif and data[start : start + 6] == jpeg_segments.EXIF:
            has_exif = True
            orientation = _exif_orientation(data[start + 6 : end])
    if size_hw is None:
        raise ValueError("no frame")
    return ImageHeader("JPEG", size_hw, orientation, components)


def _exif_orientation(exif: bytes) -> int:
    """Return EXIF's orientation, 1…8; upright where there is none or the EXIF is damaged."""
    try:
        tags, _ = tiff.read_tags(exif, (tiff.ORIENTATION,))
    except DAMAGED:
        return UPRIGHT
    value = tags.get(tiff.ORIENTATION, (UPRIGHT,))[0]
    return value if value in range(1, 9) else UPRIGHT


def _tiff(data: bytes) -> ImageHeader:
    page = tiff.choose_page(data)
    if page.refusal:
        raise NotAnImageError(f"This is {page.refusal}.")
    return ImageHeader("TIFF", page.size_hw, page.orientation, directory=page.directory, kind=page.kind)


def _png(data: bytes) -> ImageHeader:
    if data[12:16] == b"CgBI":
        raise NotAnImageError("This is a PNG of Xcode's own kind (CgBI), made for iOS: send the original file.")
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
    **dict.fromkeys(tiff.STARTS, _tiff),
}
"""Readers by the bytes that files of a format begin with."""
