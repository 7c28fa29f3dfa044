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
import pytest

from resnest_core.images import load_image
from resnest_core.runtimes import FakeRuntime
from resnest_server import Settings
from tests.deploy.files import ROOT
from tests.deploy.nginx import Nginx, documented_block, free_ports, nginx
from tests.server.live import PROCESS, live
from tests.server.test_serve import RESNEST, serving

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
        self._running.enter_context(serving(port=self.port, program=self.program, RESNEST_THREADS="1"))

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
