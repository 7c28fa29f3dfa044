"""The gateway in front of a real tritonserver: same answers, and what happens when one of the two goes away."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from deploy.triton.home import Home
from resnest_client import HttpDetector
from resnest_core import InProcessDetector
from resnest_core.images import load_image
from tests.server.test_serve import ENVIRONMENT, PHOTOGRAPH, RESNEST, ROOT, serving
from tests.triton.agreement import assert_same, detect
from tests.triton.server import REPOSITORY, TritonServer

pytestmark = pytest.mark.triton

BODY = PHOTOGRAPH.read_bytes()


def post(url: str, **query: str | float) -> httpx.Response:
    return httpx.post(f"{url}/v1/models/demo/detect", content=BODY, params=query, timeout=60)


@pytest.fixture(scope="module")
def url(triton: TritonServer) -> Iterator[str]:
    with serving("--runtime", "triton", "--triton-url", triton.grpc) as (url, _):
        yield url


@pytest.mark.parametrize("masks", [True, False])
def test_answers_are_those_of_the_detector_in_the_process(url: str, local: InProcessDetector, masks: bool) -> None:
    with HttpDetector(url, "demo") as remote:
        assert remote.card == local.card
        ours, expected = remote.detect(BODY, masks=masks), detect(local, BODY)
    assert (ours.masks is not None) == masks
    assert_same(ours, expected if masks else local.detect(BODY, masks=False))


def test_models_that_triton_has_ready_are_served(url: str) -> None:
    models = httpx.get(f"{url}/v1/models").json()
    assert [(card["name"], card["runtime"]) for card in models["models"]] == [
        ("demo", "triton"),
        ("fruit", "triton"),
        ("tight", "triton"),
    ]
    assert httpx.get(f"{url}/health/ready").status_code == 200


def test_thresholds_and_formats(url: str) -> None:
    everything, some = post(url).json()["detections"], post(url, score_threshold=0.9).json()["detections"]
    best = [row for row in everything if row["score"] > 0.9]
    assert rows_of(best) == pytest.approx(rows_of(some), abs=0.01)
    assert {row["category_id"] for row in post(url, format="coco", score_threshold=0.5).json()} == {4}
    drawing = httpx.post(f"{url}/v1/models/demo/detect", content=BODY, headers={"Accept": "image/png"}, timeout=60)
    assert drawing.content.startswith(b"\x89PNG")


def test_a_broken_image_is_its_clients_own_fault(url: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        bodies = [BODY, BODY[:-3000]] * 4
        answers = list(
            pool.map(lambda body: httpx.post(f"{url}/v1/models/demo/detect", content=body, timeout=60), bodies)
        )
    assert [answer.status_code for answer in answers] == [200, 400] * 4
    assert answers[1].json()["detail"] == "The JPEG file is cut short: send it again, whole."


def test_images_of_many_shapes_at_once(url: str) -> None:
    pixels = load_image(PHOTOGRAPH)
    sizes = [(200 + 40 * index, 300) for index in range(8)]

    def ask(size_hw: tuple[int, int]) -> tuple[int, int]:
        body = cv2.imencode(".png", cv2.resize(pixels, size_hw[::-1]))[1].tobytes()
        shape = httpx.post(f"{url}/v1/models/demo/detect", content=body, timeout=60).raise_for_status().json()["image"]
        return shape["height"], shape["width"]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, sizes)) == sizes


def test_a_client_that_leaves_frees_its_place(url: str) -> None:
    head = f"POST /v1/models/demo/detect HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0)) as connection:
            connection.sendall(head + BODY)
    for _ in range(500):
        text = httpx.get(f"{url}/metrics").text
        if re.search(r'resnest_queue_places_taken\{model="demo"\} 0\.0', text):
            break
        time.sleep(0.02)
    assert 'status="499"' in text
    assert post(url).status_code == 200


def test_an_answer_that_takes_too_long(triton: TritonServer) -> None:
    options = ("--runtime", "triton", "--triton-url", triton.grpc, "--model", "demo")
    with serving(*options, RESNEST_REQUEST_SECONDS="0.02") as (url, _):
        start = time.monotonic()
        answer = post(url)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert time.monotonic() - start < 5


@pytest.fixture
def own(triton_home: Home, triton_project: Path, tmp_path: Path) -> Iterator[TritonServer]:
    """A server of the test's own, not yet started, to be killed."""
    repository = tmp_path / "repository"
    shutil.copytree(REPOSITORY, repository, ignore=shutil.ignore_patterns("__pycache__"))
    with TritonServer(triton_home, triton_project, repository, tmp_path / "log") as server:
        yield server


def test_triton_killed_under_load_and_started_again(own: TritonServer) -> None:
    own.start()
    with serving("--runtime", "triton", "--triton-url", own.grpc) as (url, _), ThreadPoolExecutor(50) as pool:
        expected = post(url, masks="none").json()["detections"]
        answers = [pool.submit(post, url, masks="none") for _ in range(50)]
        time.sleep(1)
        own.kill()
        killed = time.monotonic()
        counts: Counter[int] = Counter()
        for future in answers:
            answer = future.result()
            counts[answer.status_code] += 1
            if answer.status_code == 200:
                assert rows(answer) == pytest.approx(rows_of(expected), abs=0.01)
            else:
                assert answer.headers["Retry-After"] == "1"
                assert answer.json()["detail"] == "demo is away in Triton: try again later."
        assert set(counts) <= {200, 503} and counts[503] > 0
        assert time.monotonic() - killed < 20
        assert post(url).status_code == 503
        until_ready(url, 503)
        own.start()
        until_ready(url, 200)
        assert rows(post(url, masks="none")) == pytest.approx(rows_of(expected), abs=0.01)


def rows(answer: httpx.Response) -> Any:
    return rows_of(answer.json()["detections"])


def rows_of(detections: list[dict[str, Any]]) -> Any:
    """Return boxes, scores and labels as numbers (N, 6)."""
    return np.array([[*row["box"], row["score"], row["label"]] for row in detections])


def until_ready(url: str, status: int) -> None:
    for _ in range(600):
        answer = httpx.get(f"{url}/health/ready")
        if answer.status_code == status:
            return
        time.sleep(0.05)
    raise AssertionError(answer.text)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--triton-url", "127.0.0.1:9"], "Triton can't be reached at 127.0.0.1:9: start it"),
        (["--model", "absent"], "has no model absent ready, only broken_preprocess, demo, "),
        (["--model", "broken"], "has no model broken ready"),
        (["--model", "demo_network"], "demo_network is not the ensemble of a detector"),
    ],
)
def test_what_can_not_be_served(triton: TritonServer, arguments: list[str], says: str) -> None:
    command = [*RESNEST, "serve", "--runtime", "triton", "--triton-url", triton.grpc, *arguments]
    environment = {**ENVIRONMENT, "RESNEST_TRITON_WAIT_SECONDS": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_gateway_waits_for_triton(own: TritonServer, tmp_path: Path) -> None:
    """It is started first, and serves once Triton is there."""
    log = tmp_path / "gateway"
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(start_later, own, log)
        with serving("--runtime", "triton", "--triton-url", own.grpc, log=log) as (url, _):
            assert post(url).status_code == 200
        starting.result()


def start_later(server: TritonServer, log: Path) -> None:
    """Start Triton once the gateway has looked for it in vain."""
    while not (log.exists() and "Trying again" in log.read_text()):
        time.sleep(0.05)
    server.start()
