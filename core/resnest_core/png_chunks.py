"""PNG files reduced to the chunks that pixels are made of.

libpng reports ancillary chunks that it finds odd (profiles, texts, animations) on stderr, and damaged animations crash
OpenCV 4.11 and 4.12. Source: W3C's PNG specification, third edition.
"""

from __future__ import annotations

import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXELS = {b"IHDR", b"IDAT", b"IEND"}
PALETTE, EXIF, END = b"PLTE", b"eXIf", b"IEND"
PALETTE_COLOUR = 3  # of IHDR: in other kinds of images the palette is a suggestion
MAX_CHUNKS = 200_000  # photographs have up to thousands; each costs about a microsecond


def only_pixels(data: bytes) -> bytes:
    """Return a PNG without the chunks that don't matter for its pixels or orientation.

    Raises:
        ValueError: it has very many chunks.
    """
    kept: list[list[int]] = []  # ranges of bytes: adjacent chunks make one
    has_palette, has_exif = data[25:26] == bytes([PALETTE_COLOUR]), False
    start = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if start + 8 > len(data):
            break
        name, end = data[start + 4 : start + 8], start + 12 + int.from_bytes(data[start : start + 4], "big")
        wanted = name in PIXELS or (name == PALETTE and has_palette)
        if name == EXIF and not has_exif:
            wanted = has_exif = _is_exif(data[start + 4 : end])
        if wanted and kept and kept[-1][1] == start:
            kept[-1][1] = end
        elif wanted:
            kept.append([start, end])
        start = end
        if name == END:
            break
    else:
        raise ValueError("too many chunks")
    if len(kept) == 1 and kept[0][0] == len(SIGNATURE) and kept[0][1] >= len(data):
        return data
    view = memoryview(data)
    return b"".join([SIGNATURE, *(view[first:last] for first, last in kept)])


def _is_exif(chunk: bytes) -> bool:
    """Tell whether a chunk, from its name to its checksum, is whole and holds EXIF."""
    return chunk[4:8] in (b"II*\0", b"MM\0*") and chunk[-4:] == zlib.crc32(chunk[:-4]).to_bytes(4, "big")
