"""The image in a JSON body, read in steps short enough that other threads get their turn.

`json.loads` and `b64decode` hold Python's lock until they return, on whatever thread they run.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from typing import Any

from resnest_core.errors import NotAnImageError

LONG = 64 * 1024  # bytes of a string that is kept out of json.loads
MAX_QUOTES = 1000  # in a body with long strings
BLOCK = 1024 * 1024  # base64 characters decoded at once, a multiple of 4
# What JSON encoders escape of base64's alphabet: PHP the slash, .NET the plus sign.
ESCAPES = {
    b"\\/": b"/",
    b"\\u002B": b"+",
    b"\\u002b": b"+",
    b"\\u002F": b"/",
    b"\\u002f": b"/",
    b"\\u003D": b"=",
    b"\\u003d": b"=",
}
SEND = 'send {"image": "<base64>"}.'


def image_of_json(body: bytes) -> bytes:
    """Return the encoded image in `{"image": "<base64 or data URL>"}`.

    Raises:
        NotAnImageError: there is none, or the JSON around it is longer than 64 KiB.
    """
    try:
        if len(body) <= LONG:
            return _decode(json.loads(body)["image"].encode("ascii"))
        return _decode(_long_image(body))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        raise NotAnImageError(f"The JSON holds no image: {SEND}") from error


def _long_image(body: bytes) -> bytes:
    """Return the value of `image`, a long string or not."""
    if b"\\" in body and b"\\\\" not in body:
        for sequence, plain in ESCAPES.items():
            body = body.replace(sequence, plain)
    if b"\0" in body or body.count(b'"') > MAX_QUOTES:
        raise NotAnImageError(f"The JSON around the image is not read: {SEND}")
    # Each long string is replaced by a placeholder that no other string can be: a NUL and the string's number.
    parts = body.split(b'"')
    long: dict[str, bytes] = {}
    inside = continued = False
    for index, part in enumerate(parts):
        escaped = inside and (len(part) - len(part.rstrip(b"\\"))) % 2 == 1  # the quote behind it
        if inside and len(part) > LONG and not (continued or escaped or b"\\" in part):
            parts[index] = b"\\u0000%d" % index
            long[f"\0{index}"] = part
        continued, inside = escaped, escaped or not inside
    rest = b'"'.join(parts)
    if len(rest) > LONG:
        raise NotAnImageError(f"The JSON around the image is longer than {LONG:,} bytes: {SEND}")
    found: Any = json.loads(rest)["image"]
    return long[found] if found in long else found.encode("ascii")


def _decode(encoded: bytes) -> bytes:
    start = encoded.index(b",") + 1 if encoded.startswith(b"data:") and b"," in encoded[:LONG] else 0
    if encoded.startswith(b"data:") and not start:
        return b""
    blocks = []
    for place in range(start, len(encoded), BLOCK):
        block = encoded[place : place + BLOCK]
        if place + BLOCK < len(encoded) and b"=" in block:
            raise binascii.Error("padding inside")
        blocks.append(b64decode(block, validate=True))
    return b"".join(blocks)
