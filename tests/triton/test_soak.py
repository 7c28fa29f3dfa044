"""Half an hour of good and bad requests on the whole stack, in which models die and the gateway is restarted."""

from __future__ import annotations

import os
import random
import shutil
import socket
import statistics
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import httpx
import psutil
import pytest

from deploy.triton.home import Home
from resnest_core.images import load_image
from tests.server.test_serve import ENVIRONMENT, PHOTOGRAPH, RESNEST, ROOT, free_port
from tests.triton.server import REPOSITORY, TritonServer
from tests.triton.test_gateway import rows_of
from tests.triton.test_supervise import processes

MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))
GROWTH = 0.02
AWAY_SECONDS = 30  # after a model's death, or while the gateway is restarted
URL = "/v1/models/demo/detect"
QUERIES: tuple[dict[str, str], ...] = ({}, {"masks": "none"}, {"score_threshold": "0.5"}, {"max_detections": "1"})
SIZES = ((320, 320), (480, 360), (360, 480), (640, 480), (800, 100))
FORMATS = (".jpg", ".png", ".webp", ".bmp")


class Stack:
    """A supervised Triton and a gateway, whose process changes when it is restarted."""

    def __init__(self, triton: TritonServer, log: Path) -> None:
        self.triton = triton
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.away_until = 0.0
        self._log = log.open("ab")
        self.start()

    def start(self) -> None:
        options = ("--port", str(self.port), "--runtime", "triton", "--triton-url", self.triton.grpc)
        environment = ENVIRONMENT | {"RESNEST_LOG_LEVEL": "warning"}
        self.gateway = subprocess.Popen(
            [*RESNEST, "serve", *options], cwd=ROOT, env=environment, stdout=self._log, stderr=self._log
        )
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health/ready").is_success:
                    return
            time.sleep(0.1)
        raise AssertionError("The gateway did not start.")

    def restart(self) -> None:
        self.stop()
        self.start()

    def stop(self) -> None:
        self.gateway.terminate()
        self.gateway.wait(60)

    def figures(self) -> dict[str, float]:
        """Return means over a minute at most: the number of open connections changes from moment to moment."""
        process = psutil.Process(self.gateway.pid)
        samples = []
        for _ in range(200):
            samples.append((process.memory_info().rss / 2**20, process.num_fds(), process.num_threads()))
            time.sleep(0.3 * min(MINUTES / 30, 1))
        return dict(zip(("MiB", "files", "threads"), map(statistics.fmean, zip(*samples, strict=True)), strict=True))


def references(url: str) -> dict[tuple[int, int], tuple[bytes, Any]]:
    """Return encoded images by number and query, with the right answers."""
    pixels = cv2.cvtColor(load_image(PHOTOGRAPH), cv2.COLOR_RGB2BGR)
    found = {}
    for number, size in enumerate(SIZES):
        image = cv2.imencode(FORMATS[number % len(FORMATS)], cv2.resize(pixels, size))[1].tobytes()
        for query, parameters in enumerate(QUERIES):
            answer = httpx.post(url + URL, content=image, params=parameters, timeout=60).raise_for_status()
            found[number, query] = image, rows_of(answer.json()["detections"])
    return found


def client(stack: Stack, right: dict[tuple[int, int], tuple[bytes, Any]], seed: int, end: float) -> Counter[str]:
    """Send good and bad requests until the end; each answer is the right one, or says why there is none."""
    rng = random.Random(seed)
    counts: Counter[str] = Counter()
    while time.monotonic() < end:
        (_, query), (image, expected) = rng.choice(list(right.items()))
        kind = rng.choices(("good", "bad", "leaves", "slow", "long header"), (85, 8, 3, 2, 2))[0]
        try:
            if kind in ("leaves", "slow"):
                head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(image)}\r\n\r\n".encode()
                with socket.create_connection(("127.0.0.1", stack.port), timeout=10) as connection:
                    connection.sendall(head + image[: rng.randrange(len(image))])
                    time.sleep(0.0 if kind == "leaves" else 1.0)
                counts[kind] += 1
                continue
            bad = {"bad": image[:-400], "long header": b""}
            headers = {"X-Long": "x" * 70_000} if kind == "long header" else {}
            answer = httpx.post(
                stack.url + URL, content=bad.get(kind, image), params=QUERIES[query], headers=headers, timeout=60
            )
        except (httpx.TransportError, OSError):
            assert time.monotonic() < stack.away_until, "The gateway was away."
            counts["unreachable"] += 1
            time.sleep(0.2)
            continue
        counts[str(answer.status_code)] += 1
        if answer.status_code == 503:
            assert time.monotonic() < stack.away_until, answer.text
            time.sleep(0.2)
        elif kind == "good":
            assert answer.status_code == 200, answer.text
            assert rows_of(answer.json()["detections"]) == pytest.approx(expected, abs=0.01)
        else:
            assert answer.status_code == {"bad": 400, "long header": 431}[kind], answer.text
    return counts


def longest_stall(stack: Stack, end: float) -> float:
    """Return the longest time, in seconds, that /health/live took while the gateway wasn't restarted."""
    longest = 0.0
    with httpx.Client(timeout=60) as session:
        while time.monotonic() < end:
            start = time.monotonic()
            with suppress(httpx.TransportError):
                session.get(f"{stack.url}/health/live")
                if start > stack.away_until:
                    longest = max(longest, time.monotonic() - start)
            time.sleep(0.02)
    return longest


@pytest.mark.slow
@pytest.mark.triton
def test_half_an_hour(triton_home: Home, triton_project: Path, tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY, tmp_path / "repository", ignore=shutil.ignore_patterns("__pycache__"))
    log = tmp_path / "log"
    server = TritonServer(triton_home, triton_project, tmp_path / "repository", log, supervised=True)
    with server.start(), ThreadPoolExecutor(4) as pool:
        stack = Stack(server, log)
        try:
            right = references(stack.url)
            start = time.monotonic()
            end = start + 60 * MINUTES
            clients = [pool.submit(client, stack, right, seed, end) for seed in range(3)]
            stall = pool.submit(longest_stall, stack, end)

            def sleep_until(part: float) -> None:
                while time.monotonic() < start + 60 * MINUTES * part:
                    for task in clients:
                        if task.done():
                            task.result()
                    time.sleep(1)

            def away() -> None:
                stack.away_until = time.monotonic() + AWAY_SECONDS

            sleep_until(0.15)
            before = stack.figures()
            for part, model in ((0.25, "demo_network"), (0.45, "demo_preprocess")):
                sleep_until(part)
                away()
                processes(server, model)[0].kill()
            sleep_until(0.65)
            after = stack.figures()
            away()
            stack.restart()
            away()
            counts = sum((task.result() for task in clients), Counter[str]())
            seconds = stall.result()
        finally:
            stack.stop()
            server.kill()
    growth = {name: after[name] / before[name] - 1 for name in before}
    print(f"{MINUTES:g} minutes: {dict(counts)}; {before} grew by {growth}; longest stall {seconds * 1000:.0f} ms")
    assert counts["500"] == 0
    assert all(grown <= GROWTH for grown in growth.values())
