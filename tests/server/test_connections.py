"""Limits of connections: who makes room, file descriptors, and what idle connections hear when a server ends."""

from __future__ import annotations

import resource
import signal
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnest_core.errors import ParameterError
from resnest_core.runtimes import FakeRuntime
from resnest_server import connections
from resnest_server.connections import Connections, connections_that_fit
from tests.server.conftest import picture
from tests.server.live import live
from tests.server.test_back_pressure import post, until
from tests.server.test_http_protocol import GET, LIVE, POST, connected, problem_of, received
from tests.server.test_serve import ENVIRONMENT, RESNEST, ROOT, free_port, serving

SLOW_BODY = POST + b"Content-Length: 10000\r\n\r\n\xff\xd8"


class FakeConnection:
    def __init__(self, address: str, waiting_since: float | None) -> None:
        self.address = address
        self.waiting_since = waiting_since
        self.is_open = True

    def make_room(self) -> None:
        self.is_open = False

    def end_soon(self) -> None:
        raise AssertionError


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.floats(0, 100)), max_size=30),
    st.integers(1, 6),
    st.none() | st.integers(1, 4),
)
def test_who_makes_room(arrivals: list[tuple[str, float | None]], limit: int, per_address: int | None) -> None:
    counted = Connections(limit, per_address)
    admitted: list[FakeConnection] = []
    for address, since in arrivals:
        new = FakeConnection(address, since)
        before = [other for other in admitted if other.is_open]
        alike = [other for other in before if other.address == address]
        crowd = alike if per_address is not None and len(alike) >= per_address else before
        is_crowded = crowd is not before or len(before) >= limit
        waiting = [other for other in crowd if other.waiting_since is not None]
        if counted.admit(new):
            admitted.append(new)
            closed = [other for other in before if not other.is_open]
            assert len(closed) == is_crowded
            if closed:
                assert closed[0].waiting_since == min(other.waiting_since or 0 for other in waiting)
        else:
            assert is_crowded and not waiting and all(other.is_open for other in before)
        assert len(counted) == len([other for other in admitted if other.is_open]) <= limit


def test_slow_clients_make_room_for_others() -> None:
    with live(FakeRuntime(), max_connections=20) as url, ExitStack() as stack:
        slow = [stack.enter_context(connected(url)) for _ in range(20)]
        for connection in slow:
            connection.sendall(SLOW_BODY)
        assert post(url).status_code == 200
        assert problem_of(received(slow[0])) == (503, "/problems/unavailable")
        slow[19].settimeout(0.2)
        with pytest.raises(TimeoutError):
            slow[19].recv(1)


def test_an_idle_connection_makes_room_without_a_word() -> None:
    with live(FakeRuntime(), max_connections=1) as url, connected(url) as idle:
        idle.sendall(GET + b"\r\n")
        until(lambda: idle.recv(65536).endswith(LIVE))
        assert httpx.get(f"{url}/health/live").status_code == 200
        assert received(idle) == b""


def test_connections_of_one_address() -> None:
    with live(FakeRuntime(), max_connections=10, max_connections_per_address=2) as url, ExitStack() as stack:
        first, *_ = [stack.enter_context(connected(url)) for _ in range(3)]
        assert received(first) == b""
        port = httpx.URL(url).port or 80
        others = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 30, (f"127.0.0.{last}", 0)))
            for last in (2, 3, 4)
        ]
        for other in others:
            other.sendall(GET + b"Connection: close\r\n\r\n")
            assert received(other).endswith(LIVE)


@pytest.mark.parametrize(
    ("soft", "hard", "fit", "raised"),
    [
        (1024, 524_288, 500, 1074),
        (4096, 4096, 500, 4096),
        (256, 256, 91, 256),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 500, resource.RLIM_INFINITY),
        (256, resource.RLIM_INFINITY, 500, 1074),
    ],
)
def test_connections_that_files_allow(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, fit: int, raised: int
) -> None:
    limits = [soft, hard]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.__setitem__(slice(None), pair))
    monkeypatch.setattr(connections, "open_files", lambda: 10)
    assert connections_that_fit(500) == fit
    assert limits[0] == raised


def test_too_few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (75, 75))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    monkeypatch.setattr(connections, "open_files", lambda: 10)
    with pytest.raises(ParameterError, match="75 open files are too few"):
        connections_that_fit(500)


def test_slow_bodies_where_files_are_few(tmp_path: Path) -> None:
    """More clients than file descriptors: others are served at once, and the log has no traceback."""
    port, log = free_port(), tmp_path / "log"
    command = [*RESNEST, "serve", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            ["sh", "-c", 'ulimit -n 256; exec "$@"', "sh", *command], cwd=ROOT, env=ENVIRONMENT, stderr=stderr
        ) as process,
        ExitStack() as stack,
    ):
        try:
            until(lambda: b"Listening" in log.read_bytes(), 60)
            for _ in range(300):
                stack.enter_context(connected(url)).sendall(SLOW_BODY)
            for _ in range(3):
                assert httpx.get(f"{url}/health/live", timeout=5).status_code == 200
            answer = httpx.post(f"{url}/v1/detect", content=picture(), timeout=30)
            assert answer.status_code == 200
        finally:
            process.kill()  # it would wait for the slow ones
            process.wait(timeout=60)
    assert "Traceback" not in log.read_text()
    assert "256 open files allow" in log.read_text()


def test_while_ending_each_answer_closes_its_connection() -> None:
    with serving(RESNEST_RUNTIME="onnxruntime") as (url, process), httpx.Client(base_url=url, timeout=60) as client:
        assert "Connection" not in client.get("/health/ready").headers
        with connected(url) as busy:  # so that the server doesn't end at once
            busy.sendall(POST + b"Content-Length: 10000\r\nExpect: 100-continue\r\n\r\n")
            assert busy.recv(1000).startswith(b"HTTP/1.1 100 ")  # it is being read
            process.send_signal(signal.SIGTERM)
            until(lambda: client.get("/health/ready").status_code == 503)
            refused = client.post("/v1/detect", content=picture())
            assert (refused.status_code, refused.headers["Connection"]) == (503, "close")
            assert client.get("/health/live").headers["Connection"] == "close"
