"""JSON bodies: long ones are read as json.loads would read them."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnest_core.errors import NotAnImageError
from resnest_server.json_image import BLOCK, read_json

IMAGE = bytes(range(256)) * 10_000  # more than one block
ENCODED = b64encode(IMAGE).decode()
PLAIN = json.dumps({"image": ENCODED})


@pytest.mark.parametrize(
    "body",
    [
        PLAIN,
        json.dumps({"image": "data:image/png;base64," + ENCODED}),
        json.dumps({"image": "\r\n".join(ENCODED[start : start + 76] for start in range(0, len(ENCODED), 76))}),
        json.dumps({"image": urlsafe_b64encode(IMAGE).decode().rstrip("=")}),
        PLAIN.replace("/", "\\/"),
        PLAIN.replace("+", "\\u002B").replace("=", "\\u003d"),
        json.dumps({"note": 'a "quoted" \\ \n word', "image": ENCODED, "ä": ["image", {"image": 3}]}),
        json.dumps({"other": "x" * 100_000, "image": ENCODED}),
        json.dumps({"inner": {"image": "short"}, "image": ENCODED}),
    ],
    ids=[
        "plain",
        "data URL",
        "lines",
        "for URLs",
        "slashes",
        ".NET",
        "other keys",
        "another long string",
        "another image within",
    ],
)
def test_long_bodies(body: str) -> None:
    assert read_json(body.encode()).image == IMAGE


@pytest.mark.parametrize(
    "body",
    [
        PLAIN[:-1],
        PLAIN[:-2],
        PLAIN[:-1] + ', "image": "short"}',
        json.dumps({"image": ENCODED[:1000] + "=" + ENCODED[1000:]}),
        json.dumps({"image": ENCODED[:1000] + "*" + ENCODED[1001:]}),
        json.dumps({"images": ENCODED}),
        json.dumps([ENCODED]),
        "[" * 100_000,
        "[" + "[]," * 100_000 + "[]]",
        json.dumps(["a"] * 100_000),
        '"' * 200_000,
        '{"image": "\\ud800"}',
        json.dumps({"other": "x" * 100_000, "image": "\0abc"}),
        json.dumps({"other": "x" * 100_000, "image": "\0" + "7"}),
        json.dumps({"other": b64encode(IMAGE).decode(), "image": "\0-1"}),
    ],
)
def test_long_bodies_without_an_image(body: str) -> None:
    with pytest.raises(NotAnImageError):
        read_json(body.encode())


@settings(deadline=None)
@given(st.binary(max_size=300_000), st.sampled_from([b64encode, urlsafe_b64encode]), st.booleans(), st.booleans())
def test_any_bytes_of_any_length(image: bytes, encode: Callable[[bytes], bytes], padded: bool, escaped: bool) -> None:
    encoded = encode(image).decode()
    body = json.dumps({"image": encoded if padded else encoded.rstrip("="), "pad": "x" * 70_000})
    assert read_json((body.replace("/", "\\/") if escaped else body).encode()).image == image


@pytest.mark.parametrize("where", [7, 300_000, len(ENCODED) - 9])
def test_broken_base64_says_so_and_where(where: int) -> None:
    body = json.dumps({"image": f"{ENCODED[:where]}*{ENCODED[where + 1 :]}"})
    with pytest.raises(
        NotAnImageError, match=r"base64 of the image is broken at or after character [\d,]+ \("
    ) as error:
        read_json(body.encode())
    at = int(str(error.value).split("character ")[1].split(" ")[0].replace(",", ""))
    assert where - BLOCK <= at <= where
