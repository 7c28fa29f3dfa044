"""`resnest serve` as a process of its own, on the demo model, and what people use it with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

from resnest_client import HttpDetector
from resnest_core import load_detector
from resnest_core.images import load_image
from resnest_core.repository import network_path

ROOT = Path(__file__).parents[2]
PHOTOGRAPH = ROOT / "tests/data/demo/images/000000000073.jpg"
RESNEST = (sys.executable, "-c", "from resnest_core.cli import main; main()")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("RESNEST_")}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def serving(
    *arguments: str, log: Path | None = None, **variables: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run `resnest serve`, and give its address once it is ready; what it logs goes to a file."""
    with serving_at(free_port(), (*RESNEST, "serve", *arguments), log, variables) as running:
        yield running


@contextmanager
def serving_at(
    port: int, program: Sequence[str], log: Path | None = None, variables: Mapping[str, str] = {}
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a gateway on a port, and give its address once it is ready; what it logs goes to a file."""
    command = [*program, "--port", str(port)]
    with (
        log.open("w+b") if log else tempfile.TemporaryFile() as stderr,
        subprocess.Popen(command, cwd=ROOT, env={**ENVIRONMENT, **variables}, stderr=stderr) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(600):
                if process.poll() is not None:
                    stderr.seek(0)
                    raise AssertionError(stderr.read().decode())
                try:
                    if httpx.get(f"{url}/health/ready").is_success:
                        break
                except httpx.TransportError:
                    time.sleep(0.05)
            yield url, process
        finally:
            process.terminate()
            process.wait(timeout=30)


def post(url: str) -> httpx.Response:
    return httpx.post(f"{url}/v1/detect", content=PHOTOGRAPH.read_bytes(), timeout=60)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as (url, _):
        yield url


def test_client_finds_what_the_detector_in_the_process_finds(url: str) -> None:
    with HttpDetector(url) as remote, load_detector("demo", repository=ROOT / "model_repository") as local:
        assert remote.card == local.card
        for masks in (True, False):
            ours = remote.detect(PHOTOGRAPH, score_threshold=0.3, masks=masks)
            expected = local.detect(PHOTOGRAPH, score_threshold=0.3, masks=masks)
            assert len(ours) >= 3
            np.testing.assert_allclose(ours.boxes_xyxy, expected.boxes_xyxy, atol=0.01)
            np.testing.assert_allclose(ours.scores, expected.scores, atol=1e-4)
            np.testing.assert_array_equal(ours.labels, expected.labels)
            if ours.masks is None or expected.masks is None:
                assert ours.masks is expected.masks is None
            else:
                np.testing.assert_allclose(ours.masks, expected.masks, atol=2e-3)


def test_command_line_asks_the_gateway(url: str) -> None:
    command = [*RESNEST, "detect", str(PHOTOGRAPH), "--url", url, "--score-threshold", "0.5"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=True)
    (answer,) = json.loads(done.stdout)
    assert {found["class"] for found in answer["detections"]} == {"motorcycle"}
    assert answer["detections"][0]["mask"]["size"] == [640, 565]


@pytest.mark.parametrize("size_hw", [(1, 1), (30, 600), (600, 30), (1, 2000), (3000, 2000)])
def test_images_of_odd_shapes(url: str, size_hw: tuple[int, int]) -> None:
    image = cv2.imencode(".png", cv2.resize(load_image(PHOTOGRAPH), size_hw[::-1]))[1].tobytes()
    answer = httpx.post(f"{url}/v1/detect", content=image, headers={"Content-Type": "image/png"}, timeout=60)
    assert answer.status_code == 200
    assert answer.json()["image"] == {"width": size_hw[1], "height": size_hw[0]}


def test_many_clients_at_once_each_get_their_own_answer(url: str) -> None:
    image = load_image(PHOTOGRAPH)
    sizes = [(200 + 10 * index, 300) for index in range(12)]

    def ask(size_hw: tuple[int, int]) -> tuple[int, int]:
        body = cv2.imencode(".jpg", cv2.resize(image, size_hw[::-1]))[1].tobytes()
        shape = httpx.post(f"{url}/v1/detect", content=body, timeout=60).raise_for_status().json()["image"]
        return shape["height"], shape["width"]

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(ask, sizes)) == sizes


@pytest.mark.parametrize("leave", ["in the header", "in the body", "before the answer"])
def test_a_client_that_leaves_harms_nobody(url: str, leave: str) -> None:
    body = PHOTOGRAPH.read_bytes()
    head = f"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
    sent = {
        "in the header": head.encode()[:40],
        "in the body": head.encode() + body[:1000],
        "before the answer": head.encode() + body,
    }
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", httpx.URL(url).port or 80)) as connection:
            connection.sendall(sent[leave])
    assert httpx.post(f"{url}/v1/detect", content=body, timeout=60).status_code == 200


@pytest.mark.parametrize("with_length", [True, False])
def test_a_body_over_the_limit_is_told_to_the_client(url: str, with_length: bool) -> None:
    """Over a real connection: the client must get to read the answer although it is still sending."""
    body = bytes(48 * 2**20)
    content = body if with_length else (body[start : start + 2**20] for start in range(0, len(body), 2**20))
    answer = httpx.post(f"{url}/v1/detect", content=content, headers={"Content-Type": "image/jpeg"}, timeout=60)
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/body-too-large")


def await_arrivals(url: str, count: int) -> None:
    """Wait until so many requests have come, answered or not."""
    for _ in range(600):
        lines = httpx.get(f"{url}/metrics").text.splitlines()
        counted = ("resnest_queue_places_taken{", "resnest_requests_total{")
        if sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(counted)) >= count:
            return
        time.sleep(0.02)
    raise AssertionError("They never came.")


def test_what_is_in_flight_is_answered_before_the_end() -> None:
    with serving() as (url, process), ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(post, url) for _ in range(4)]
        await_arrivals(url, 4)
        process.send_signal(signal.SIGTERM)
        assert [answer.result().status_code for answer in answers] == [200] * 4
        assert process.wait(timeout=30) in (0, -signal.SIGTERM)
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)


def test_not_ready_while_it_ends_and_new_images_are_refused() -> None:
    with serving() as (url, process), ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(post, url) for _ in range(6)]
        await_arrivals(url, 6)
        process.send_signal(signal.SIGTERM)
        ready = httpx.get(f"{url}/health/ready")
        assert (ready.status_code, ready.json()["type"]) == (503, "/problems/unavailable")
        assert "about to end" in ready.json()["detail"]
        assert post(url).status_code == 503
        assert [answer.result().status_code for answer in answers] == [200] * 6


def test_a_model_file_replaced_while_it_is_served_changes_nothing(tmp_path: Path) -> None:
    path = network_path(tmp_path, "demo")
    path.parent.mkdir(parents=True)
    shutil.copy(network_path(ROOT / "model_repository", "demo"), path)
    with serving("--repository", str(tmp_path)) as (url, _):
        before = post(url).json()["detections"]
        path.write_bytes(b"something else")
        assert post(url).json()["detections"] == before
        path.unlink()
        assert post(url).json()["detections"] == before


def test_settings_come_from_the_environment_too() -> None:
    with serving(RESNEST_MODELS="demo", RESNEST_RUNTIME="openvino", RESNEST_MAX_PIXELS="100") as (url, _):
        answer = httpx.post(f"{url}/v1/models/demo/detect", content=PHOTOGRAPH.read_bytes())
        assert (answer.status_code, answer.json()["type"]) == (413, "/problems/image-too-large")


def corrupt(path: Path) -> None:
    path.write_bytes(b"\x08\x0a corrupt")


def foreign(path: Path) -> None:
    from onnx import TensorProto, helper, save

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)]), path)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("write", "says"), [(corrupt, "is damaged"), (foreign, "has no model card")])
def test_model_files_that_can_not_be_served(
    tmp_path: Path, runtime: str, write: Callable[[Path], None], says: str
) -> None:
    path = network_path(tmp_path, "mine")
    path.parent.mkdir(parents=True)
    write(path)
    assert says in failing("--repository", str(tmp_path), "--runtime", runtime)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "absent"], "There is no model 'absent'"),
        (["--repository", "/nowhere"], "There are no models in /nowhere"),
        (["--runtime", "abacus"], "The setting runtime can't be 'abacus'"),
        (["--host", "0.0.0.0"], "Others can reach 0.0.0.0, and there are no keys"),
        (["--host", "no.such.host.invalid", "--insecure"], "no.such.host.invalid:8000 can't be listened on"),
        (["--port", "99999"], "The setting port can't be 99999"),
        (["--device", "cuda"], "ONNX Runtime has no cuda here"),
    ],
)
def test_what_can_not_be_served(arguments: list[str], says: str) -> None:
    assert says in failing(*arguments)


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "can't be listened on: address already in use" in failing("--port", str(taken.getsockname()[1]))


def failing(*arguments: str) -> str:
    """Run `resnest serve`, which fails, and return the sentence that it says last."""
    command = [*RESNEST, "serve", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    sentence = done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert sentence.startswith("resnest: ") and sentence.endswith(".")
    return sentence
