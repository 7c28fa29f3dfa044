"""Over real connections: a full queue, clients that leave or are slow, runtimes that hang, and the end of a server."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from resnest_core import tensors
from resnest_core.runtimes import FakeRuntime
from resnest_core.runtimes.fake import FAKE_CARD
from resnest_core.tensors import Tensors
from tests.server.conftest import picture
from tests.server.live import live

JPEG = {"Content-Type": "image/jpeg"}
BODY = picture()


class Gate:
    """Holds every run of a runtime until it is opened; `reached` counts the runs that came so far."""

    def __init__(self) -> None:
        self.reached = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, _: Tensors) -> None:
        self.reached.release()
        assert self.open.wait(60)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


def post(url: str, **arguments: object) -> httpx.Response:
    return httpx.post(f"{url}/v1/detect", content=BODY, headers=JPEG, timeout=60, **arguments)  # type: ignore[arg-type]


def metric(url: str, name: str) -> float:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def until(condition: object, seconds: float = 30) -> None:
    """Wait until a function's result is true."""
    assert callable(condition)
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("It never came true.")


def test_a_thousand_requests_on_a_queue_of_64() -> None:
    async def ask(url: str) -> Counter[int]:
        limits = httpx.Limits(max_connections=1000)
        async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
            answers = await asyncio.gather(
                *(client.post("/v1/detect", content=BODY, headers=JPEG) for _ in range(1000))
            )
        for answer in answers:
            if answer.status_code == 503:
                assert answer.headers["Retry-After"] == "1"
                assert answer.json()["type"] == "/problems/unavailable"
            else:
                assert len(answer.json()["detections"]) == 3
        return Counter(answer.status_code for answer in answers)

    runtime = FakeRuntime(before_run=lambda _: time.sleep(0.01))
    with live(runtime, max_queue=64) as url:
        counts = asyncio.run(ask(url))
        assert set(counts) <= {200, 503}
        assert counts[200] >= 64 and counts[503] > 0
        assert post(url).status_code == 200
        assert metric(url, "resnest_queue_places_taken") == 0
    assert len(runtime.calls) == counts[200] + 1


def test_a_full_queue_is_told_before_an_image_is_decoded(gate: Gate) -> None:
    with live(FakeRuntime(before_run=gate), max_queue=2, max_images=2) as url, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(post, url) for _ in range(2)]
        until(lambda: metric(url, "resnest_queue_places_taken") == 2)
        cut = httpx.post(f"{url}/v1/detect", content=BODY[:-100], headers=JPEG)
        assert cut.status_code == 503  # decoding would have told 400
        gate.open.set()
        assert [answer.result().status_code for answer in waiting] == [200, 200]
        assert httpx.post(f"{url}/v1/detect", content=BODY[:-100], headers=JPEG).status_code == 400


def test_a_client_that_leaves_frees_its_place_and_is_not_run(gate: Gate) -> None:
    runtime = FakeRuntime(before_run=gate)
    head = f"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(BODY)}\r\n\r\n"
    with live(runtime, max_queue=3, max_images=3) as url, ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, url)
        assert gate.reached.acquire(timeout=30)
        leaving = [socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0)) for _ in range(2)]
        for connection in leaving:
            connection.sendall(head.encode() + BODY)
        until(lambda: metric(url, "resnest_queue_images") == 2)
        assert post(url).status_code == 503
        for connection in leaving:
            connection.close()
        until(lambda: metric(url, "resnest_queue_places_taken") == 1)
        gate.open.set()
        assert first.result().status_code == 200
        assert post(url).status_code == 200
        assert 'status="499"} 2.0' in httpx.get(f"{url}/metrics").text
    assert len(runtime.calls) == 2


@pytest.mark.parametrize("several", [False, True])
def test_a_client_that_leaves_lines_frees_its_places(gate: Gate, several: bool) -> None:
    files = [("file", BODY)] * (3 if several else 1)
    with live(FakeRuntime(before_run=gate), max_queue=3, max_images=3) as url:
        for _ in range(3):
            with pytest.raises(httpx.ReadTimeout), httpx.Client(timeout=httpx.Timeout(30, read=0.3)) as client:
                client.post(f"{url}/v1/detect", files=files, headers={"Accept": "application/x-ndjson"})
            until(lambda: metric(url, "resnest_queue_places_taken") == 0)
        gate.open.set()
        assert post(url).status_code == 200


def test_lines_come_as_each_image_is_ready() -> None:
    second = threading.Event()

    def run(inputs: Tensors) -> None:
        if inputs[tensors.ORIGINAL_SIZES][0, 0] == 20:
            assert second.wait(30)

    files = [("file", picture(20)), ("file", picture(30)), ("file", b"no image")]
    with live(FakeRuntime(before_run=run), instances=2) as url:
        headers = {"Accept": "application/x-ndjson"}
        with httpx.stream("POST", f"{url}/v1/detect", files=files, headers=headers, timeout=60) as answer:
            assert answer.headers["Content-Type"] == "application/x-ndjson"
            lines = answer.iter_lines()
            ready = sorted([next(lines), next(lines)])
            assert '"index":1,"model":"fake"' in ready[0]
            assert '"index":2,"type":"/problems/not-an-image"' in ready[1]
            second.set()
            assert '"index":0,"model":"fake"' in next(lines)
            assert list(lines) == []


def test_a_runtime_that_hangs_costs_others_nothing(gate: Gate) -> None:
    hanging = FakeRuntime(before_run=gate)
    other = FakeRuntime(FAKE_CARD.model_copy(update={"name": "other"}))
    with live(hanging, other, request_seconds=0.4) as url:
        answers = [httpx.post(f"{url}/v1/models/fake/detect", content=BODY, headers=JPEG) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [503, 503]
        assert "no answer within 0.4 s" in answers[0].json()["detail"]
        assert httpx.post(f"{url}/v1/models/other/detect", content=BODY, headers=JPEG).status_code == 200
        until(lambda: httpx.get(f"{url}/health/ready").status_code == 503)
        assert "fake has not answered for" in httpx.get(f"{url}/health/ready").json()["detail"]
        assert httpx.get(f"{url}/health/live").status_code == 200
        gate.open.set()
        until(lambda: httpx.get(f"{url}/health/ready").status_code == 200)


def test_slow_clients_hold_nobody_up() -> None:
    head = b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 100000\r\n\r\n"
    with live(FakeRuntime(), header_seconds=2, body_seconds=2, max_queue=2, max_images=2) as url:
        address = ("127.0.0.1", httpx.URL(url).port or 0)
        slow = [socket.create_connection(address) for _ in range(200)]
        for number, connection in enumerate(slow):
            connection.sendall(head if number % 2 else head[:30])
        start = time.monotonic()
        assert [post(url).status_code for _ in range(20)] == [200] * 20
        assert time.monotonic() - start < 10
        for connection in slow:
            connection.settimeout(30)
            assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
            connection.close()


def test_a_kept_connection_that_begins_a_request_and_stalls_is_closed() -> None:
    request = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    with (
        live(FakeRuntime(), header_seconds=0.5) as url,
        socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), timeout=30) as connection,
    ):
        connection.sendall(request)
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(1000)
        assert answer.startswith(b"HTTP/1.1 200 ")
        connection.sendall(request[:20])
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_an_idle_connection_is_closed_when_the_setting_says() -> None:
    with (
        live(FakeRuntime(), idle_seconds=1) as url,
        socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), timeout=30) as connection,
    ):
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
        start = time.monotonic()
        while connection.recv(1000):
            pass
        assert 0.9 < time.monotonic() - start < 4  # uvicorn's own limit is 5


def test_requests_within_time_are_not_cut_off(gate: Gate) -> None:
    """A request that waits longer than clients may take for their headers is answered."""
    with live(FakeRuntime(before_run=gate), header_seconds=0.3) as url, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, url)
        time.sleep(1)
        gate.open.set()
        assert answer.result().status_code == 200
