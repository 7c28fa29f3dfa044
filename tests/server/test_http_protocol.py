"""Over raw connections: what is refused before it reaches the application, and what that costs the others."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import httpx
import pytest

from resnest_core.runtimes import FakeRuntime
from resnest_server.http_protocol import LimitedHttpProtocol
from tests.server.conftest import picture
from tests.server.live import live
from tests.server.test_back_pressure import Gate, metric, until

LIMIT = 0.050  # seconds of CPU time that one callback of the event loop may take
GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
LIVE = b'{"status":"live"}'


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with live(FakeRuntime()) as url:
        yield url


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", httpx.URL(url).port or 80), timeout=30) as connection:
        yield connection


def received(connection: socket.socket) -> bytes:
    """Return what comes until the server closes the connection."""
    data = b""
    with suppress(ConnectionResetError):
        while block := connection.recv(65536):
            data += block
    return data


def send_all(connection: socket.socket, data: bytes) -> None:
    with suppress(ConnectionResetError, BrokenPipeError):  # it was refused
        connection.sendall(data)


def problem_of(data: bytes) -> tuple[int, str]:
    """Return the status and type of a response that is a problem with a request id, and that ends the connection."""
    head, _, body = data.partition(b"\r\n\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(b": ") for line in head.split(b"\r\n"))}
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"connection"] == b"close"
    assert re.fullmatch(b"[0-9a-f]{32}", headers[b"x-request-id"])
    assert headers[b"x-content-type-options"] == b"nosniff"
    problem = json.loads(body)
    assert problem["status"] == int(head.split()[1])
    return problem["status"], problem["type"]


class Cost:
    """Longest CPU time of one block of bytes that came, in seconds; and how many bytes were read."""

    longest = 0.0
    bytes_read = 0


@pytest.fixture
def cost(monkeypatch: pytest.MonkeyPatch) -> Cost:
    cost = Cost()
    feed = LimitedHttpProtocol.data_received

    def timed(protocol: LimitedHttpProtocol, data: bytes) -> None:
        cost.bytes_read += 0 if protocol._is_closed else len(data)
        begin = time.thread_time()
        feed(protocol, data)
        cost.longest = max(cost.longest, time.thread_time() - begin)

    monkeypatch.setattr(LimitedHttpProtocol, "data_received", timed)
    return cost


def asked(url: str, data: bytes) -> bytes:
    with connected(url) as connection:
        send_all(connection, data)
        return received(connection)


@pytest.mark.parametrize("connections", [1, 8])
@pytest.mark.parametrize(
    "start",
    [
        GET + b"X-Long: ",
        b"GET /",
        CHUNKED + b"1;",
        CHUNKED + b"1\r\nx\r\n0\r\nX-Trailer: ",
        CHUNKED + b"1\r\nx\r\n1;extension=",
    ],
)
def test_headers_that_do_not_end(url: str, start: bytes, connections: int, cost: Cost) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(url)) for _ in range(connections)]
        for client in clients:
            send_all(client, start)
        for _ in range(20):
            for client in clients:
                send_all(client, b"x" * 100_000)
        for client in clients:
            data = received(client)
            assert not data or problem_of(data) == (431, "/problems/headers-too-large")
    assert 0 < cost.longest < LIMIT
    assert cost.bytes_read < connections * 500_000
    assert httpx.get(f"{url}/health/live").status_code == 200


def test_a_client_reads_why_its_headers_were_refused(url: str) -> None:
    data = GET + b"Cookie: " + b"x" * 70_000 + b"\r\n\r\n"
    assert problem_of(asked(url, data)) == (431, "/problems/headers-too-large")
    assert b" 200 OK" in asked(url, GET + b"Connection: close\r\nCookie: " + b"x" * 60_000 + b"\r\n\r\n")


@pytest.mark.parametrize(("count", "status"), [(98, b"200"), (99, b"431")])  # and Host, and Connection
def test_the_number_of_headers(url: str, count: int, status: bytes) -> None:
    assert asked(url, GET + b"Connection: close\r\n" + b"a: b\r\n" * count + b"\r\n").split()[1] == status


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET /%zz\x01 HTTP/1.1\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
        POST + b"Content-Length: x\r\n\r\n",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        CHUNKED + b"zz\r\n",
    ],
)
def test_what_is_no_request(url: str, data: bytes) -> None:
    assert problem_of(asked(url, data)) == (400, "/problems/bad-request")


def test_other_protocols_are_not_switched_to(url: str) -> None:
    upgrade = b"Connection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n"
    assert asked(url, GET + upgrade).endswith(LIVE)


OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
SMUGGLED = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("size", [1, 7, 300, 10**6], ids="in blocks of {} bytes".format)
def test_the_body_of_a_request_that_offers_another_protocol(url: str, is_chunked: bool, size: int) -> None:
    body = picture()
    framing, packed = (
        (b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        if is_chunked
        else (b"Content-Length: %d\r\n\r\n" % len(body), body)
    )
    data = (POST + OFFER + framing + packed) * 2 + GET + b"Connection: close\r\n\r\n"
    with connected(url) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), size):
            connection.sendall(data[start : start + size])
        answers = received(connection)
    assert answers.count(b"HTTP/1.1 200 OK") == 3
    assert answers.count(b'"detections"') == 2 and answers.endswith(LIVE)


def test_a_body_behind_an_offer_of_another_protocol_is_no_request(url: str) -> None:
    head = POST + OFFER + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED)
    with connected(url) as connection:
        connection.sendall(head)
        time.sleep(0.1)
        connection.sendall(SMUGGLED + GET + b"Connection: close\r\n\r\n")
        answers = received(connection)
    assert [line.split()[1] for line in re.findall(rb"HTTP/1.1 \d+", answers)] == [b"400", b"200"]
    assert answers.endswith(LIVE)


def test_a_request_behind_one_without_a_body_that_offers_another_protocol(url: str) -> None:
    data = asked(url, (GET + OFFER + b"\r\n") * 2 + GET + b"Connection: close\r\n\r\n")
    assert data.count(LIVE) == 3


def test_requests_sent_ahead_are_answered_in_order(url: str) -> None:
    last = b"GET /v1/models/fake HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    data = asked(url, (GET + b"\r\n") * 15 + last)
    assert data.count(LIVE) == 15
    assert b'"fake"' in data.rpartition(LIVE)[2]


def test_too_many_requests_sent_ahead(url: str, cost: Cost) -> None:
    data = asked(url, (GET + b"\r\n") * 7000)
    answers = data.split(b"HTTP/1.1 ")[1:]
    assert all(answer.startswith(b"200 OK") for answer in answers)  # none is taken for the answer to another request
    assert len(answers) <= 17
    assert 0 < cost.longest < LIMIT


def test_a_body_in_tiny_chunks(url: str, cost: Cost) -> None:
    body = picture() + bytes(400_000)
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    answer = asked(url, CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + chunks)
    assert answer.startswith(b"HTTP/1.1 200 ")
    print(f"{cost.longest * 1000:.1f} ms")
    assert 0 < cost.longest < LIMIT


def test_a_broken_request_sent_ahead_does_not_answer_the_one_before() -> None:
    gate = Gate()
    body = picture()
    with live(FakeRuntime(before_run=gate)) as url, connected(url) as connection:
        connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert gate.reached.acquire(timeout=30)
        connection.sendall(b"nonsense\r\n\r\n")
        assert received(connection) == b""
        gate.open.set()
        until(lambda: metric(url, "resnest_queue_places_taken") == 0)


def test_headers_that_come_slowly() -> None:
    with live(FakeRuntime(), header_seconds=0.5) as url, connected(url) as slow, connected(url) as silent:
        slow.sendall(GET)
        assert problem_of(received(slow)) == (408, "/problems/slow-headers")
        assert received(silent) == b""


def test_a_client_that_does_not_read_its_answer_is_cut_off() -> None:
    body = picture(2000, 2500, "image/png")  # more than the system keeps in its buffers
    with live(FakeRuntime(), send_seconds=0.5) as url, connected(url) as connection:
        request = POST.replace(b"image/jpeg", b"image/png") + b"Accept: image/png\r\n"
        connection.sendall(request + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        until(lambda: metric(url, "resnest_requests_total") == 1)
        time.sleep(1.5)
        data = received(connection)
        assert 0 < len(data) < len(body)


def test_a_client_that_reads_slowly_gets_its_whole_answer() -> None:
    body = picture(1500, 2000, "image/png")
    with live(FakeRuntime(), send_seconds=0.5) as url, connected(url) as connection:
        request = POST.replace(b"image/jpeg", b"image/png") + b"Accept: image/png\r\nConnection: close\r\n"
        connection.sendall(request + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        head, _, data = connection.recv(65536).partition(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
        while block := connection.recv(1_000_000):
            data += block
            time.sleep(0.1)
        assert len(data) == length > 5_000_000


def test_a_request_answered_early_leaves_the_connection_its_idle_time() -> None:
    """A body that is refused by its length, and sent all the same."""
    body = b"x" * 300_000
    with (
        live(FakeRuntime(), max_body_bytes=100_000, header_seconds=0.3, idle_seconds=2) as url,
        connected(url) as connection,
    ):
        connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(body))
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
        connection.sendall(body)
        time.sleep(1)
        connection.sendall(GET + b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert received(connection) == b""
