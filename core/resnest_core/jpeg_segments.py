"""JPEG segments: size and orientation, and files reduced to the segments that pixels are made of.

libjpeg reports what it reads over (bytes between segments, another JFIF version) on stderr. Sources: ITU-T T.81, and
Adobe's technical note 5116.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

START_OF_SCAN, END_OF_IMAGE, APP0, APP1, APP14 = 0xDA, 0xD9, 0xE0, 0xE1, 0xEE
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # start of frame, of any coding process
TABLES = {0xC4, 0xCC, 0xDB, 0xDD}  # Huffman and arithmetic coding, quantization, restart interval
WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
MAX_SEGMENTS = 200_000  # photographs have tens; each costs about a microsecond
EXIF, JFIF, ADOBE = b"Exif\0\0", b"JFIF\0", b"Adobe"
ADOBE_BYTES = 12
JFIF_SEGMENT = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
IN_SCAN = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")  # a marker that ends a scan


class Segment(NamedTuple):
    """A marker, and the range of its segment's content in bytes."""

    marker: int
    start: int
    end: int


def segments(data: bytes) -> Iterator[Segment]:
    """Yield the segments up to the first scan's, which is the last one; bytes between segments are skipped.

    Raises:
        LookupError, ValueError, struct.error: the file ends before.
    """
    position = 2
    for _ in range(MAX_SEGMENTS):
        position = data.index(b"\xff", position)
        marker = data[position + 1]
        if marker in (0x00, 0xFF):  # a stuffed byte; a fill byte
            position += 1
            continue
        if marker == END_OF_IMAGE:
            return
        if marker in WITHOUT_LENGTH:
            position += 2
            continue
        if marker == START_OF_SCAN:
            yield Segment(marker, position + 2, position + 2)
            return
        (length,) = struct.unpack_from(">H", data, position + 2)
        following = position + 2 + max(length, 2)
        yield Segment(marker, position + 4, following)
        position = following


def only_pixels(data: bytes) -> bytes:
    """Return a JPEG without the segments that don't matter for its pixels or orientation, nor bytes between segments.

    Raises:
        LookupError, ValueError, struct.error: the file ends before its first scan.
    """
    parts, scan = [b"\xff\xd8"], len(data)
    has_exif = False
    for marker, start, end in segments(data):
        content = data[start:end]
        if marker == START_OF_SCAN:
            scan = start - 2
        elif marker == APP0 and content.startswith(JFIF):
            parts.append(JFIF_SEGMENT)
        elif marker == APP1 and content.startswith(EXIF) and not has_exif:
            has_exif = True
            parts.append(data[start - 4 : end])
        elif marker in FRAMES | TABLES or (
            marker == APP14 and content.startswith(ADOBE) and len(content) >= ADOBE_BYTES
        ):
            parts.append(data[start - 4 : end])
    return b"".join([*parts, memoryview(data)[scan:]])


def is_whole(data: bytes) -> bool:
    """Tell whether the first image has an end: a file that was cut short in its scans has none."""
    position = next((start for marker, start, _ in segments(data) if marker == START_OF_SCAN), len(data))
    for _ in range(MAX_SEGMENTS):
        found = IN_SCAN.search(data, position)
        if found is None:
            break
        marker, position = found[1][0], found.end()
        if marker == END_OF_IMAGE:
            return True
        if marker not in WITHOUT_LENGTH and position + 2 <= len(data):
            position += max(int.from_bytes(data[position : position + 2], "big"), 2)
    return False
