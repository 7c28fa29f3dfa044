"""TIFF directories: which of a file's images is decoded, and why one can't be.

Sources: the TIFF 6.0 specification and its supplement 1 (SubIFDs), BigTIFF's, and Adobe's DNG 1.7 specification.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

STARTS = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
"""The bytes that a file begins with: byte order, and whether it is a BigTIFF."""
FORMS = {3: "H", 16: "Q", 18: "Q"}  # types of numbers; any other is read as 32 bits
ARRAYS = {3, 4, 13, 16, 18}  # types of which a tag may have several numbers
MAX_VALUES = 256  # of a tag: bits of each band, offsets of directories
MAX_DIRECTORIES, MAX_ENTRIES = 200, 4096  # files have tens of each

# Tags.
NEW_SUBFILE_TYPE, SUBFILE_TYPE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
ORIENTATION, BANDS, SUB_DIRECTORIES, SAMPLE_FORMAT, DNG_VERSION = 274, 277, 330, 339, 50706
WANTED = (
    NEW_SUBFILE_TYPE,
    SUBFILE_TYPE,
    WIDTH,
    HEIGHT,
    BITS,
    COMPRESSION,
    PHOTOMETRIC,
    ORIENTATION,
    BANDS,
    SUB_DIRECTORIES,
    SAMPLE_FORMAT,
    DNG_VERSION,
)

REDUCED_BITS, REDUCED_OLD = 1 | 4, 2  # a smaller copy, or a mask, of another image in the file
CANON_RAW = b"\x10\0\0\0CR\2"  # in the header of a CR2 file: its first directory's place, 16, and its name
RAW_PHOTOMETRIC = (32803, 34892)  # colour filter array, linear raw
FLOAT, COMPLEX = 3, (5, 6)
MAX_BITS, MAX_BANDS = 16, 4
# What OpenCV's packages can't decode.
COMPRESSIONS = {
    6: "the old JPEG",
    34661: "JBIG",
    34712: "JPEG 2000",
    34887: "LERC",
    34925: "LZMA",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
COLOURS = {9: "ICCLab", 10: "ITULab", 32844: "LogL", 32845: "LogLuv"}


class Directory(NamedTuple):
    """One image of a file: its directory's place in bytes, and the numbers of its WANTED tags."""

    start: int
    tags: dict[int, tuple[int, ...]]
    is_sub: bool = False
    """Whether another directory refers to it, rather than the chain of pages."""

    def first(self, tag: int, default: int = 0) -> int:
        """Return the first number of a tag."""
        return self.tags.get(tag, (default,))[0]

    @property
    def is_reduced(self) -> bool:
        """Whether it says that it is a smaller copy, or a mask, of another image."""
        return bool(self.first(NEW_SUBFILE_TYPE) & REDUCED_BITS) or self.first(SUBFILE_TYPE) == REDUCED_OLD

    @property
    def pixels(self) -> int:
        return self.first(WIDTH) * self.first(HEIGHT)


class Page(NamedTuple):
    """The image of a file that is decoded."""

    size_hw: tuple[int, int]
    directory: int
    """The place of its directory in bytes; 0: it is the file's first."""
    orientation: int
    """What the file's first directory says of an image that it refers to; 1: the image's own tag, if any, counts."""
    refusal: str | None
    """What the image is, if it isn't read: `a TIFF of 32-bit floats: convert it to 8 bits`."""
    kind: str | None
    """Its unusual compression or colours, which may be why it can't be decoded."""


def choose_page(data: bytes) -> Page:
    """Return the first image, or the largest one if the first is a thumbnail of another.

    Raises:
        LookupError, ValueError, struct.error: the file is damaged.
    """
    directories = _directories(data)
    first = next(directories)
    others = list(directories) if first.is_reduced or SUB_DIRECTORIES in first.tags else []
    chosen = _full_size(first, others) if first.is_reduced else first
    is_raw = data[4:11] == CANON_RAW or DNG_VERSION in first.tags
    if is_raw or any(one.first(PHOTOMETRIC) in RAW_PHOTOMETRIC for one in (first, *others)):
        refusal: str | None = "a camera's raw photograph: develop it and save it as JPEG"
    else:
        refusal = _refusal(chosen)
    return Page(
        size_hw=(chosen.tags[HEIGHT][0], chosen.tags[WIDTH][0]),
        directory=chosen.start if chosen is not first else 0,
        orientation=first.first(ORIENTATION, 1) if chosen.is_sub and ORIENTATION not in chosen.tags else 1,
        refusal=refusal,
        kind=_kind(chosen),
    )


def starting_at(data: bytes, directory: int) -> bytes:
    """Return the file with another directory as its first one: decoders take the first one."""
    order, is_big = STARTS[data[:4]]
    place, form = (8, "Q") if is_big else (4, "I")
    pointer = struct.pack(f"{order}{form}", directory)
    return data[:place] + pointer + data[place + len(pointer) :]


def read_tags(data: bytes, wanted: tuple[int, ...], start: int | None = None) -> tuple[dict[int, tuple[int, ...]], int]:
    """Return the numbers of tags in a directory, the first one unless `start` is given, and the place of the next one.

    Raises:
        LookupError, ValueError, struct.error: the file is damaged.
    """
    order, is_big = STARTS[data[:4]]
    offset = f"{order}{'Q' if is_big else 'I'}"
    if start is None:
        start = struct.unpack_from(offset, data, 8 if is_big else 4)[0]
    if start >= len(data):
        raise ValueError("the directory is beyond the end")
    if is_big:
        (count,) = struct.unpack_from(f"{order}Q", data, start)
        entry, first = [("tag", "u2"), ("type", "u2"), ("count", "u8"), ("value", "V8")], start + 8
    else:
        (count,) = struct.unpack_from(f"{order}H", data, start)
        entry, first = [("tag", "u2"), ("type", "u2"), ("count", "u4"), ("value", "V4")], start + 2
    dtype = np.dtype([(name, kind if kind[0] == "V" else order + kind) for name, kind in entry])
    end = first + count * dtype.itemsize
    # A directory that is cut short still has the entries that are there.
    count = min(count, max(len(data) - first, 0) // dtype.itemsize, MAX_ENTRIES)
    entries = np.frombuffer(data, dtype, count, first)
    found: dict[int, tuple[int, ...]] = {}
    for row in entries[np.isin(entries["tag"], wanted)][: len(wanted) * 2]:
        if values := _values(data, order, int(row["type"]), int(row["count"]), bytes(row["value"])):
            found.setdefault(int(row["tag"]), values)
    following = struct.unpack_from(offset, data, end)[0] if end + struct.calcsize(offset) <= len(data) else 0
    return found, following


def _values(data: bytes, order: str, kind: int, count: int, field: bytes) -> tuple[int, ...]:
    """Return a tag's numbers, which its field holds or points to; none if they are beyond the end."""
    form = f"{order}{max(1, min(count, MAX_VALUES)) if kind in ARRAYS else 1}{FORMS.get(kind, 'I')}"
    if struct.calcsize(form) <= len(field):
        return struct.unpack_from(form, field)
    (place,) = struct.unpack(f"{order}{'Q' if len(field) == 8 else 'I'}", field)
    return struct.unpack_from(form, data, place) if place + struct.calcsize(form) <= len(data) else ()


def _directories(data: bytes) -> Iterator[Directory]:
    """Yield the directories in the order of the file, each followed by those that it refers to.

    Raises:
        LookupError, ValueError, struct.error: the first one is damaged; at another one that is, the rest is left out.
    """
    tags, following = read_tags(data, WANTED)
    yield Directory(0, tags)
    seen: set[int] = set()
    waiting = [*tags.get(SUB_DIRECTORIES, ())[::-1]]
    try:
        while len(seen) < MAX_DIRECTORIES:
            is_sub = bool(waiting)
            place = waiting.pop() if is_sub else following
            if place in seen or not 0 < place < len(data):
                if is_sub:
                    continue
                return
            seen.add(place)
            tags, after = read_tags(data, WANTED, place)
            yield Directory(place, tags, is_sub)
            if not is_sub:
                following = after
                waiting = [*tags.get(SUB_DIRECTORIES, ())[::-1]]
    except (LookupError, ValueError, struct.error):
        return


def _full_size(first: Directory, others: Sequence[Directory]) -> Directory:
    """Return the largest of the images that aren't smaller copies; if all say that they are, the largest one."""
    complete = [one for one in (first, *others) if WIDTH in one.tags and HEIGHT in one.tags]
    full = [one for one in complete if not one.is_reduced]
    return max(full or complete or [first], key=lambda one: one.pixels)


def _refusal(directory: Directory) -> str | None:
    bits, bands = max(directory.tags.get(BITS, (1,))), directory.first(BANDS, 1)
    sample = directory.first(SAMPLE_FORMAT, 1)
    if sample == FLOAT:
        return f"a TIFF of {bits}-bit floats: convert it to 8 bits"
    if sample in COMPLEX:
        return "a TIFF of complex numbers: convert it to 8 bits"
    if bits > MAX_BITS:
        return f"a TIFF of {bits}-bit integers: convert it to 8 bits"
    if bands > MAX_BANDS:
        return f"a TIFF of {bands} bands: save red, green and blue only"
    return None


def _kind(directory: Directory) -> str | None:
    if name := COMPRESSIONS.get(directory.first(COMPRESSION, 1)):
        return f"a TIFF compressed by {name}: save it with LZW, or as PNG"
    if name := COLOURS.get(directory.first(PHOTOMETRIC)):
        return f"a TIFF of {name} colours: convert it to RGB"
    return None
