"""An ONNX file's metadata, read without parsing its graph: nearly all of a file's bytes are weights.

A file is one protobuf message, `ModelProto` of onnx.proto: a sequence of fields, each a tag (field number and wire
type) and a value (https://protobuf.dev/programming-guides/encoding/). Fields other than the metadata are skipped.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from resnest_core.errors import InvalidModelError

GRAPH, METADATA_PROPS = 7, 14  # field numbers in ModelProto
KEY, VALUE = 1, 2  # field numbers in StringStringEntryProto
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5  # wire types
FIXED_BYTES = {FIXED64: 8, FIXED32: 4}
MAX_VARINT_BYTES = 10


def read_metadata(path: Path) -> dict[str, str]:
    """Return the `metadata_props` of the ONNX file at `path`.

    Raises:
        InvalidModelError: the file can't be read, is cut short, or isn't an ONNX model.
    """
    damaged = InvalidModelError(f"{path} is damaged or not an ONNX model: export it again.")
    found: dict[str, str] = {}
    has_graph = False
    try:
        with path.open("rb") as file:
            for number, value in _fields(file, path.stat().st_size, wanted=METADATA_PROPS):
                has_graph |= number == GRAPH
                if number == METADATA_PROPS:
                    entry = dict(_fields(io.BytesIO(value), len(value)))
                    found[entry[KEY].decode()] = entry.get(VALUE, b"").decode()
    except (OSError, ValueError, KeyError) as error:
        raise damaged from error
    if not has_graph:
        raise damaged
    return found


def _fields(file: BinaryIO, size: int, wanted: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Yield a message's field numbers and values; of fields that aren't `wanted` the value is skipped, and empty.

    Raises:
        ValueError: the bytes aren't a protobuf message.
    """
    while file.tell() < size:
        tag = _varint(file)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == VARINT:
            _varint(file)
            yield number, b""
            continue
        length = _varint(file) if wire_type == LENGTH_DELIMITED else FIXED_BYTES.get(wire_type, -1)
        if not number or length < 0 or file.tell() + length > size:
            raise ValueError(f"no field begins at byte {file.tell()}")
        if wanted in (None, number):
            yield number, file.read(length)
        else:
            file.seek(length, io.SEEK_CUR)
            yield number, b""


def _varint(file: BinaryIO) -> int:
    value = 0
    for position in range(MAX_VARINT_BYTES):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << 7 * position
        if byte[0] < 0x80:
            return value
    raise ValueError("a number is cut short")
