"""Thousands of damaged images through the endpoint: none is a fault of the server's, and memory stays where it was."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import httpx
import pytest

from resnest_core.images import load_image
from resnest_core.runtimes import FakeRuntime
from tests.core.encoded_images import PIXELS, Page, tiff
from tests.core.test_heif import avif, heic
from tests.core.test_tiff import REDUCED, SMALL
from tests.server.live import live
from tests.server.test_serve import ROOT

MEGABYTES = 64  # that the process may grow by while it refuses images
PHOTOGRAPHS = (ROOT / "tests/data/parity/images/311303_small.jpg", ROOT / "tests/data/demo/images/000000000471.jpg")


def originals() -> list[bytes]:
    """Return photographs as JPEG, PNG and WebP, and a few of other formats, small enough to be quick."""
    images = [heic(), avif(), tiff(Page(SMALL, REDUCED, (Page(PIXELS),)), Page(PIXELS), big=True)]
    for path in PHOTOGRAPHS:
        pixels = cv2.cvtColor(cv2.resize(load_image(path), (96, 64)), cv2.COLOR_RGB2BGR)
        images += [cv2.imencode(suffix, pixels)[1].tobytes() for suffix in (".jpg", ".png", ".webp")]
    return images


def mutated(count: int, seed: int) -> Iterator[bytes]:
    """Yield images with bytes flipped, cut out, doubled, cut off, or put in from another."""
    rng = random.Random(seed)
    images = originals()
    for _ in range(count):
        image = bytearray(rng.choice(images))
        for _ in range(rng.randint(1, 4)):
            start = rng.randrange(len(image)) if rng.random() < 0.5 else rng.randrange(min(len(image), 64))
            length = rng.randint(1, 64)
            change = rng.randrange(5)
            if change == 0:
                image[start] = rng.randrange(256)
            elif change == 1:
                del image[start : start + length]
            elif change == 2:
                image[start:start] = image[start : start + length]
            elif change == 3:
                image = image[: max(start, 1)]
            else:
                other = rng.choice(images)
                place = rng.randrange(len(other))
                image[start : start + length] = other[place : place + length]
            if not image:
                image = bytearray(b"\0")
        yield bytes(image)


def resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


@pytest.mark.parametrize("count", [500, pytest.param(20_000, marks=pytest.mark.slow)])
def test_damaged_images(count: int) -> None:
    runtime = FakeRuntime(before_run=lambda _: runtime.calls.clear())
    statuses: Counter[int] = Counter()
    settled = 0
    with live(runtime) as url, httpx.Client(base_url=url, timeout=60) as client:
        for number, image in enumerate(mutated(count, seed=1)):
            answer = client.post("/v1/detect", content=image)
            assert answer.status_code in (200, 400, 413), (number, answer.text)
            statuses[answer.status_code] += 1
            if number == count // 5:
                settled = resident_bytes()
        growth = resident_bytes() - settled
    assert statuses[400] > count / 10 and statuses[200] > count / 100
    assert growth <= MEGABYTES * 2**20
    print(f"{count} images: {dict(statuses)}, memory grew by {growth / 2**20:.1f} MiB")
