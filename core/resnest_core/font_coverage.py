"""Which characters a font file has, from its `cmap` table.

Source: the OpenType specification 1.9.1, `cmap`, formats 4 and 12. Pillow doesn't tell: it draws an empty box for a
character that a font lacks.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

COLLECTION = b"ttcf"
FULL, BASIC = 12, 4  # formats: all of Unicode, and its first 65,536 characters
MAX_TABLES = 256
MAX_BYTES = 4 * 2**20  # of a cmap; those of fonts with all of Unicode have 1.5 MB


class Coverage:
    """The characters that a font file has; none if it can't be read. Of a collection, those of its first font."""

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                self._firsts, self._lasts = _ranges(_cmap(file))
        except (OSError, LookupError, ValueError, struct.error):
            self._firsts = self._lasts = np.zeros(0, np.int64)

    def has(self, character: str) -> bool:
        place = int(np.searchsorted(self._firsts, ord(character), side="right")) - 1
        return place >= 0 and ord(character) <= int(self._lasts[place])


def _cmap(file: BinaryIO) -> bytes:
    start = 0
    if file.read(4) == COLLECTION:
        file.seek(12)
        (start,) = struct.unpack(">I", file.read(4))
    file.seek(start + 4)
    (count,) = struct.unpack(">H6x", file.read(8))
    for _ in range(min(count, MAX_TABLES)):
        tag, offset, length = struct.unpack(">4s4xII", file.read(16))
        if tag == b"cmap":
            file.seek(offset)
            return file.read(min(length, MAX_BYTES))
    raise LookupError("no cmap")


def _ranges(cmap: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first and the last character of each range, ascending."""
    (count,) = struct.unpack_from(">2xH", cmap)
    tables: dict[int, int] = {}
    for index in range(count):
        platform, encoding, offset = struct.unpack_from(">HHI", cmap, 4 + 8 * index)
        if platform == 0 or (platform == 3 and encoding in (1, 10)):
            tables[struct.unpack_from(">H", cmap, offset)[0]] = offset
    if FULL in tables:
        (groups,) = struct.unpack_from(">I", cmap, tables[FULL] + 12)
        values = np.frombuffer(cmap, ">u4", 3 * groups, tables[FULL] + 16).reshape(-1, 3)
        return values[:, 0].astype(np.int64), values[:, 1].astype(np.int64)
    (twice,) = struct.unpack_from(">H", cmap, tables[BASIC] + 6)
    lasts = np.frombuffer(cmap, ">u2", twice // 2, tables[BASIC] + 14)
    firsts = np.frombuffer(cmap, ">u2", twice // 2, tables[BASIC] + 16 + twice)
    return firsts.astype(np.int64), lasts.astype(np.int64)
