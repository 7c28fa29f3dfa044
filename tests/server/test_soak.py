"""Half an hour of mixed requests: memory stays, and nothing fails."""

from __future__ import annotations

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import httpx
import psutil
import pytest

from resnest_core.images import load_image
from tests.server.test_serve import PHOTOGRAPH, serving

MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))
GROWTH = 0.02  # of the memory after the first fifth of the time
QUERIES: tuple[dict[str, str], ...] = (
    {},
    {"masks": "none"},
    {"masks": "polygons"},
    {"masks": "png"},
    {"format": "coco"},
    {"score_threshold": "nan"},
)


@pytest.mark.slow
def test_memory_stays() -> None:
    pixels = load_image(PHOTOGRAPH)
    sizes = [(320, 320), (480, 360), (360, 480), (640, 480), (800, 100)]
    images = [cv2.imencode(".jpg", cv2.resize(pixels, size))[1].tobytes() for size in sizes]
    images.append(images[0][:-500])  # cut short

    def client(url: str, seed: int, end: float) -> int:
        rng = random.Random(seed)
        count = 0
        with httpx.Client(base_url=url, timeout=60) as session:
            while time.monotonic() < end:
                image, query = rng.choice(images), rng.choice(QUERIES)
                answer = session.post("/v1/detect", content=image, params=query)
                expected = 422 if query.get("score_threshold") == "nan" else 400 if image is images[-1] else 200
                assert answer.status_code == expected, answer.text
                count += 1
        return count

    with serving(RESNEST_LOG_LEVEL="warning") as (url, process), ThreadPoolExecutor(2) as pool:
        server = psutil.Process(process.pid)
        start = time.monotonic()
        clients = [pool.submit(client, url, seed, start + 60 * MINUTES) for seed in range(2)]
        time.sleep(12 * MINUTES)
        settled = server.memory_info().rss
        answered = sum(future.result() for future in clients)
        grown = server.memory_info().rss / settled - 1
    print(f"{answered} requests in {MINUTES:g} minutes: {settled / 2**20:.0f} MiB, grown by {grown:.2%}")
    assert grown <= GROWTH
