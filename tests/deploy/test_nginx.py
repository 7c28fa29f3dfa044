"""Gateways behind nginx with the block that docs/operations.md shows: clients see no error that a retry can avoid."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import httpx
import psutil
import pytest

from resnest_core.images import load_image
from resnest_core.runtimes import FakeRuntime
from resnest_server import Settings
from tests.deploy.files import ROOT
from tests.deploy.nginx import Nginx, documented_block, free_ports, nginx
from tests.server.live import PROCESS, live
from tests.server.test_back_pressure import BODY, Gate, post
from tests.server.test_serve import RESNEST, serving_at

IMAGES = sorted((ROOT / "tests/data/demo/images").glob("*.jpg"))
CLIENTS = 6
LINES = {"Accept": "application/x-ndjson"}


@dataclass
class Gateway:
    """A gateway in a process of its own, which can be restarted on its port."""

    program: Sequence[str]
    port: int
    _running: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        self._running.enter_context(serving_at(self.port, self.program, variables={"RESNEST_THREADS": "1"}))

    def stop(self) -> None:
        """Send SIGTERM, and wait until the process has ended."""
        self._running.close()


@contextmanager
def two_gateways(program: Sequence[str]) -> Iterator[list[Gateway]]:
    gateways = [Gateway(program, port) for port in free_ports(2)]
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        for gateway in gateways:
            stack.callback(gateway.stop)
        list(pool.map(Gateway.start, gateways))
        yield gateways


def requests() -> list[httpx.Request]:
    """Return a request per client: bodies that nginx keeps in memory and in files, one image, and lines for two."""
    photographs = [path.read_bytes() for path in IMAGES[: CLIENTS - 1]]
    small = cv2.imencode(".jpg", cv2.resize(load_image(IMAGES[0]), (96, 80)))[1].tobytes()
    assert len(small) < 2**13 and min(map(len, photographs)) > 2**14
    single = [httpx.Request("POST", "http://gateway/v1/detect", content=body) for body in [small, *photographs[1:]]]
    files = [("file", small), ("file", photographs[0])]
    return [*single, httpx.Request("POST", "http://gateway/v1/detect", files=files, headers=LINES)]


def ask(client: httpx.Client, request: httpx.Request) -> tuple[int, list[object]]:
    """Return the status and a JSON answer's lines, in the images' order and without the times that they took."""
    headers = {name: request.headers[name] for name in ("Content-Type", "Accept") if name in request.headers}
    answer = client.post(request.url.path, content=request.read(), headers=headers)
    assert "json" in answer.headers["Content-Type"], answer.text
    lines = [json.loads(line) for line in answer.text.splitlines()]
    for line in lines:
        line.pop("timings_ms", None)
    return answer.status_code, sorted(lines, key=lambda line: int(line.get("index", 0)))


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


@pytest.fixture(scope="module")
def gateways() -> Iterator[list[Gateway]]:
    with two_gateways(PROCESS) as gateways:
        yield gateways


@pytest.mark.parametrize("pause", [0, 2, 4])
def test_clients_see_no_error_while_gateways_are_restarted(
    gateways: list[Gateway], pause: float, tmp_path: Path
) -> None:
    restart_under_load(gateways, pause, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0, 2, 15])
def test_clients_see_no_error_while_gateways_with_a_network_are_restarted(pause: float, tmp_path: Path) -> None:
    with two_gateways([*RESNEST, "serve", "--model", "demo"]) as gateways:
        restart_under_load(gateways, pause, tmp_path)


def restart_under_load(gateways: list[Gateway], pause: float, folder: Path) -> None:
    """Restart one gateway, and the other so many seconds after the first is ready again; compare each answer."""
    over = threading.Event()
    bodies = requests()
    with httpx.Client(base_url=f"http://127.0.0.1:{gateways[0].port}", timeout=60) as direct:
        expected = [ask(direct, body) for body in bodies]
    assert [status for status, _ in expected] == [200] * CLIENTS

    def repeat(proxy: Nginx, number: int) -> int:
        count = 0
        with proxy.client() as client:
            while not over.is_set():
                assert ask(client, bodies[number]) == expected[number]
                count += 1
        return count

    with nginx(folder, (gateways[0].port, gateways[1].port)) as proxy, ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(repeat, proxy, number) for number in range(CLIENTS)]
        try:
            time.sleep(1)
            for gateway, seconds in zip(gateways, (pause, 1), strict=True):
                gateway.stop()
                gateway.start()
                time.sleep(seconds)
        finally:
            over.set()
        counts = [client.result() for client in clients]
    tries = proxy.tries()
    assert min(counts) > 0 and len(tries) == sum(counts)
    assert {status for status, _ in tries} == {"200"}
    assert ["502", "200"] in [statuses for _, statuses in tries]  # nginx's own 502: the gateway couldn't be reached


def test_nginx_closes_idle_connections_before_the_gateway_does(tmp_path: Path) -> None:
    """With both limits scaled down, 60 s to 1 s and 75 s to 2 s, and idle times around both."""
    idle_times = [0.95, 1, 1.05, 1.995, 2, 2.005]
    changes = {"keepalive_timeout 60s": "keepalive_timeout 1s"}

    def repeat(proxy: Nginx) -> list[tuple[int, object]]:
        answers = []
        with proxy.client() as client:
            for seconds in idle_times:
                answer = client.post("/v1/detect", content=BODY)
                answers.append((answer.status_code, answer.json()["detections"]))
                time.sleep(seconds)
        return answers

    with live(FakeRuntime(), idle_seconds=2) as first, live(FakeRuntime(), idle_seconds=2) as second:
        expected = httpx.post(f"{first}/v1/detect", content=BODY).json()["detections"]
        ports = port_of(first), port_of(second)
        with nginx(tmp_path, ports, changes) as proxy, ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(repeat, proxy) for _ in range(CLIENTS)]
            assert [client.result() for client in clients] == [[(200, expected)] * len(idle_times)] * CLIENTS
            time.sleep(1)
            by_gateways, by_nginx = connections_closed_first(ports)
    assert proxy.tries() == [("200", ["200"])] * CLIENTS * len(idle_times)  # no failure that nginx hid from the clients
    assert by_gateways == 0 and by_nginx > 0


def connections_closed_first(ports: Sequence[int]) -> tuple[int, int]:
    """Return how many connections to the ports were closed by the server first, and how many by the client.

    The side that closes first keeps the socket in the state TIME_WAIT.
    """
    waiting = [c for c in psutil.net_connections("tcp4") if c.status == psutil.CONN_TIME_WAIT]
    by_server = [c for c in waiting if c.laddr and c.laddr.port in ports]
    by_client = [c for c in waiting if c.raddr and c.raddr.port in ports]
    return len(by_server), len(by_client)


def test_a_request_that_a_full_queue_refuses_is_answered_by_the_other_gateway(tmp_path: Path, gate: Gate) -> None:
    full = live(FakeRuntime(before_run=gate), max_queue=1, max_images=1)
    with full as first, live(FakeRuntime()) as second, ThreadPoolExecutor(1) as pool:
        held = pool.submit(post, first)
        assert gate.reached.acquire(timeout=30)
        with nginx(tmp_path, (port_of(first), port_of(second))) as proxy, proxy.client() as client:
            assert [client.post("/v1/detect", content=BODY).status_code for _ in range(4)] == [200] * 4
        gate.open.set()
        assert held.result().status_code == 200
    assert ["503", "200"] in [statuses for _, statuses in proxy.tries()]


def test_a_request_that_both_gateways_refuse_gets_a_gateways_response(tmp_path: Path, gate: Gate) -> None:
    settings = {"max_queue": 1, "max_images": 1}
    runtimes = FakeRuntime(before_run=gate), FakeRuntime(before_run=gate)
    with live(runtimes[0], **settings) as first, live(runtimes[1], **settings) as second, ThreadPoolExecutor(2) as pool:
        held = [pool.submit(post, url) for url in (first, second)]
        assert all(gate.reached.acquire(timeout=30) for _ in held)
        with nginx(tmp_path, (port_of(first), port_of(second))) as proxy, proxy.client() as client:
            refused = client.post("/v1/detect", content=BODY)
        gate.open.set()
        assert [answer.result().status_code for answer in held] == [200] * 2
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/unavailable")
    assert refused.headers["Retry-After"]
    assert proxy.tries() == [("503", ["503", "503"])]


def test_a_request_that_waited_in_vain_is_not_sent_again(tmp_path: Path, gate: Gate) -> None:
    """With both limits scaled down, RESNEST_REQUEST_SECONDS from 60 s to 1.5 s and nginx's from 45 s to 1 s."""
    changes = {"proxy_next_upstream_timeout 45s": "proxy_next_upstream_timeout 1s"}
    runtimes = FakeRuntime(before_run=gate), FakeRuntime(before_run=gate)
    with live(runtimes[0], request_seconds=1.5) as first, live(runtimes[1], request_seconds=1.5) as second:
        with nginx(tmp_path, (port_of(first), port_of(second)), changes) as proxy, proxy.client() as client:
            answer = client.post("/v1/detect", content=BODY)
        gate.open.set()
    assert answer.status_code == 503 and "no answer within 1.5 s" in answer.json()["detail"]
    assert proxy.tries() == [("503", ["503"])]


def test_metrics_are_not_public(tmp_path: Path) -> None:
    with live(FakeRuntime()) as url:
        with nginx(tmp_path, (port_of(url), port_of(url))) as proxy, proxy.client() as client:
            assert client.get("/metrics").status_code == 403
            assert client.get("/health/ready").status_code == 200
        assert httpx.get(f"{url}/metrics").status_code == 200


def test_limits_of_nginx_fit_the_gateways_defaults() -> None:
    block, settings = documented_block(), Settings()

    def of(directive: str) -> int:
        (number,) = re.findall(rf"^ *{directive} (\d+)[sm];", block, re.MULTILINE)
        return int(number)

    assert of("keepalive_timeout") < settings.idle_seconds
    assert settings.shutdown_seconds < of("proxy_next_upstream_timeout") < settings.request_seconds
    assert settings.request_seconds < of("proxy_read_timeout")
    assert of("client_max_body_size") * 2**20 == settings.max_body_bytes


def port_of(url: str) -> int:
    return httpx.URL(url).port or 80
