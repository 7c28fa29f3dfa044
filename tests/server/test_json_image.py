"""JSON bodies: long ones are read as json.loads would read them."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest

from resnest_core.errors import NotAnImageError
from resnest_server.json_image import image_of_json

IMAGE = bytes(range(256)) * 10_000  # more than one block


ENCODED = b64encode(IMAGE).decode()
PLAIN = json.dumps({"image": ENCODED})


@pytest.mark.parametrize(
    "body",
    [
        PLAIN,
        json.dumps({"image": "data:image/png;base64," + ENCODED}),
        PLAIN.replace("/", "\\/"),
        PLAIN.replace("+", "\\u002B").replace("=", "\\u003d"),
        json.dumps({"note": 'a "quoted" \\ \n word', "image": ENCODED, "ä": ["image", {"image": 3}]}),
        json.dumps({"other": "x" * 100_000, "image": ENCODED}),
        json.dumps({"image": "short", "inner": {"image": ENCODED}})[:-1] + f', "image": "{ENCODED}"}}',
    ],
    ids=["plain", "data URL", "slashes", ".NET", "other keys", "another long string", "the last of a name"],
)
def test_long_bodies(body: str) -> None:
    assert image_of_json(body.encode()) == IMAGE


@pytest.mark.parametrize(
    "body",
    [
        PLAIN[:-1],
        PLAIN[:-2],
        json.dumps({"image": ENCODED[:1000] + "=" + ENCODED[1000:]}),
        json.dumps({"image": ENCODED[:1000] + "*" + ENCODED[1001:]}),
        json.dumps({"images": ENCODED}),
        json.dumps([ENCODED]),
        "[" * 100_000,
        "[" + "[]," * 100_000 + "[]]",
        json.dumps(["a"] * 100_000),
        '"' * 200_000,
    ],
)
def test_long_bodies_without_an_image(body: str) -> None:
    with pytest.raises(NotAnImageError):
        image_of_json(body.encode())
