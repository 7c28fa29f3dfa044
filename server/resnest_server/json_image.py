"""What a JSON body says, decoded in steps short enough that the event loop's thread gets its turn between them.

`json.loads` and `b64decode` hold the interpreter lock until they return, on whatever thread they run: for a body of
31 MiB that is a fifth of a second. So long strings are cut out of the JSON first, and base64 is decoded block by block.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from typing import Any, NamedTuple, NoReturn

from resnest_core.errors import NotAnImageError

KEY = "image"
LONG = 64 * 1024  # bytes of a string that is kept out of json.loads
MAX_QUOTES = 2000  # in a body with long strings
BLOCK = 256 * 1024  # bytes of base64 decoded at once: well below a millisecond
MAX_BACKSLASHES = 1024  # in a row before a quote
MAX_ESCAPE = 6  # characters of JSON's longest escape, \u002B
# What JSON encoders escape in base64: PHP the slash, .NET the plus sign, others line breaks.
ESCAPES = {b"/": b"/", b"n": b"\n", b"r": b"\r", b"t": b"\t"} | {
    f"u{ord(character):04{form}}".encode(): character.encode() for character in "+/=-_" for form in "xX"
}
URL_SAFE = bytes.maketrans(b"-_", b"+/")
WHITESPACE = b" \t\r\n"
EXAMPLE = 'send {"image": "<base64>"}.'


class JsonBody(NamedTuple):
    """What a JSON body says: an encoded image, and pairs of a parameter's name and value, as JSON has them."""

    image: bytes
    parameters: list[tuple[str, Any]]


def read_json(body: bytes) -> JsonBody:
    """Read `{"image": "<base64, or a data: URL of it>", "<parameter>": <value>, …}`.

    Base64 may have line breaks, the alphabet of URLs, and no padding.

    Raises:
        NotAnImageError: there is no image, or more than one, its base64 is broken, or the JSON around it is longer than
            64 KiB.
    """
    try:
        skeleton, strings = _without_long_strings(body) if len(body) > LONG else (body, {})
        pairs = json.loads(skeleton, object_pairs_hook=_Pairs)
        if not isinstance(pairs, _Pairs):
            raise TypeError(type(pairs))
        (value,) = (value for name, value in pairs if name == KEY)
        if not isinstance(value, str):
            raise TypeError(type(value))
        text = strings.get(value) or memoryview(value.encode())
    except (ValueError, TypeError, RecursionError) as error:
        raise NotAnImageError(f"The JSON holds no image, or more than one: {EXAMPLE}") from error
    others = [(name, dict(other) if isinstance(other, _Pairs) else other) for name, other in pairs if name != KEY]
    return JsonBody(_decoded(text, is_json=value in strings), others)


class _Pairs(list[tuple[str, Any]]):
    """An object of JSON, whose names may stand in it twice."""


def _without_long_strings(body: bytes) -> tuple[bytes, dict[str, memoryview]]:
    """Return the JSON with a placeholder for each long string, a NUL and its number; and the strings by placeholder.

    Raises:
        ValueError: what is left is long, too.
    """
    view = memoryview(body)
    pieces: list[bytes] = []
    strings: dict[str, memoryview] = {}
    position = quotes = size = 0
    while (start := body.find(b'"', position)) >= 0:
        end = start
        while True:
            end = body.index(b'"', end + 1)
            quotes += 1
            before = body[max(end - MAX_BACKSLASHES, start + 1) : end]
            backslashes = len(before) - len(before.rstrip(b"\\"))
            if backslashes == MAX_BACKSLASHES:
                raise ValueError("backslashes")
            if backslashes % 2 == 0:  # else the quote is escaped
                break
        if end - start > LONG:
            piece = body[position:start] + b'"\\u0000%d"' % len(strings)
            strings[f"\0{len(strings)}"] = view[start + 1 : end]
        else:
            piece = body[position : end + 1]
        size += len(piece)
        if size > LONG or quotes > MAX_QUOTES:
            break
        pieces.append(piece)
        position = end + 1
    rest = body[position : position + LONG + 1]
    if size + len(rest) > LONG or quotes > MAX_QUOTES:
        raise ValueError("long")
    return b"".join([*pieces, rest]), strings


def _decoded(text: memoryview, *, is_json: bool) -> bytes:
    """Decode base64; `is_json`: with JSON's escapes.

    Raises:
        NotAnImageError: it is broken; the message says where.
    """
    decoded, kept = [], b""
    position = bytes(text[:LONG]).find(b",") + 1 if bytes(text[:5]) == b"data:" else 0
    while position < len(text):
        block = bytes(text[position : position + BLOCK])
        at_end = position + len(block) == len(text)
        if is_json and not at_end and (escape := block.rfind(b"\\", -MAX_ESCAPE)) > 0:
            block = block[:escape]
        at = position
        position += len(block)
        plain = kept + _unescaped(block, at) if is_json and b"\\" in block else kept + block
        plain = plain.translate(URL_SAFE, WHITESPACE)
        if at_end:
            plain += b"=" * (-len(plain) % 4)  # encoders for URLs leave the padding out
        whole = len(plain) // 4 * 4
        kept = plain[whole:]
        if not at_end and b"=" in plain:
            _broken(at + plain.index(b"="), "padding before the end")
        try:
            decoded.append(b64decode(plain[:whole], validate=True))
        except binascii.Error as error:
            _broken(at, str(error).lower())
    return b"".join(decoded)


def _unescaped(block: bytes, at: int) -> bytes:
    head, *escapes = block.split(b"\\")
    parts = [head]
    for part in escapes:
        sequence = part[:5] if part.startswith(b"u") else part[:1]
        if sequence not in ESCAPES:
            _broken(at, f"an escape \\{sequence.decode(errors='replace')}")
        parts += [ESCAPES[sequence], part[len(sequence) :]]
    return b"".join(parts)


def _broken(at: int, why: str) -> NoReturn:
    raise NotAnImageError(f"The base64 of the image is broken at or after character {at:,} ({why}): {EXAMPLE}")
