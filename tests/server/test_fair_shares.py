"""Small images beside 16 clients that send the largest images allowed, over real connections.

What is counted is how many huge images are decoded while a small one waits: no time is measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import httpx
import numpy as np
import pytest

from resnest_core.images import MAX_PIXELS, Pixels
from resnest_core.runtimes import FakeRuntime
from resnest_server import engines, host_threads
from tests.core.test_images import png_header
from tests.server.conftest import picture
from tests.server.live import live

ATTACKERS, REQUESTS = 16, 8
HUGE = png_header(8000, 8000)
SMALL = picture()
assert MAX_PIXELS == 8000 * 8000

HEADERS: dict[str, Callable[[int], dict[str, str]]] = {
    "the address of the honest client": lambda _: {},
    "one address": lambda _: {"X-Forwarded-For": "192.0.2.1"},
    "sixteen addresses": lambda number: {"X-Forwarded-For": f"192.0.2.{number}"},
    "one key": lambda _: {"X-API-Key": "attacker"},
}


@pytest.mark.parametrize("attackers", HEADERS)
@pytest.mark.parametrize("several", [False, True], ids=["single", "forms"])
def test_small_images_wait_for_few_huge_ones(attackers: str, several: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def decode(data: bytes, *, max_pixels: int) -> Pixels:
        assert max_pixels == MAX_PIXELS
        begun.append("huge" if data == HUGE else "small")
        time.sleep(0.02 if data == HUGE else 0)
        return np.zeros((40, 60, 3), np.uint8)

    monkeypatch.setattr(engines, "decode_image", decode)
    monkeypatch.setattr(host_threads, "share_of_cpus", lambda _: 1)

    async def main(url: str) -> list[int]:
        async with httpx.AsyncClient(base_url=url, timeout=60, headers={"X-API-Key": "honest"}) as client:
            stop = asyncio.Event()

            async def attack(number: int) -> None:
                while not stop.is_set():
                    headers = HEADERS[attackers](number)
                    answer = await client.post("/v1/detect", headers=headers, **body(HUGE, several))  # type: ignore[arg-type]
                    assert answer.status_code == 200

            assert (await client.post("/v1/detect", content=SMALL)).status_code == 200  # what is done once is done
            tasks = [asyncio.create_task(attack(number)) for number in range(ATTACKERS)]
            while begun.count("huge") < ATTACKERS:
                await asyncio.sleep(0.01)
            waited = []
            for _ in range(REQUESTS):
                before = len(begun)
                answer = await client.post("/v1/detect", **body(SMALL, several))  # type: ignore[arg-type]
                assert answer.status_code == 200
                waited.append(begun[before:].count("huge"))
            stop.set()
            await asyncio.gather(*tasks)
            return waited

    keys = {"api_keys": "attacker,honest"} if "key" in attackers else {}
    with live(FakeRuntime(), **keys) as url:
        waited = asyncio.run(main(url))
    # Few before it is decoded, and few before its answer is encoded.
    # In order of arrival it would be 16, or 32 in forms. The most is not exact: huge ones go on while a busy machine
    # carries the small one from its decoding to its encoding.
    assert sorted(waited)[REQUESTS // 2] <= 3 and max(waited) <= 10, waited


def body(image: bytes, several: bool) -> dict[str, object]:
    """Return the arguments of a request for an image, or for two in a form."""
    return {"files": [("file", image)] * 2} if several else {"content": image}
