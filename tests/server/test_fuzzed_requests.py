"""Fuzzed requests over connections: images, forms, JSON, packed bodies, headers. None is a fault of the server's."""

from __future__ import annotations

import gzip
import json
import random
import re
import socket
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import psutil
import pytest

from resnest_core.runtimes import FakeRuntime
from tests.server.live import live
from tests.server.test_mutated_images import mutated, originals

CLIENTS = 4
MEGABYTES = 64  # that the process may grow by
HEADERS = (
    "Content-Length", "Transfer-Encoding", "Content-Type", "Content-Encoding", "Connection", "Accept", "Expect",
    "Upgrade", "Host", "X-Request-ID", "Authorization", "Cookie", "Range", "traceparent", "X-Forwarded-For", "TE",
)  # fmt: skip
VALUES = (
    b"", b"0", b"-1", b"5, 5", b"chunked", b"gzip, chunked", b"identity", b"gzip", b"close",
    b"keep-alive, Upgrade", b"*/*", b"image/png;q=0.5, */*;q=x", b"multipart/form-data",
    b"multipart/form-data; boundary=", b"application/json; charset=utf-16",
    b"100-continue", b"h2c", b"bytes=0-", b"\xff\xfe", b"Bearer \xc3\xa4", b"00-zz-1", b"1.2.3.4, evil", b"x" * 3000,
)  # fmt: skip


def forms(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield forms with odd parts, and bytes changed in some of them."""
    images = originals()
    names = (
        'name="file"; filename="a.jpg"',
        'name="file"',
        'name="max_detections"',
        "name=file; filename*=x''y",
        "",
        'name=""',
    )
    while True:
        parts = []
        for _ in range(rng.randint(0, 4)):
            content = rng.choice((rng.choice(images), b"1", b"", rng.randbytes(rng.randint(0, 300))))
            head = f"Content-Disposition: form-data; {rng.choice(names)}".encode()
            parts.append(b"--x\r\n" + head + b"\r\n" * rng.choice((1, 2, 2, 2)) + content + b"\r\n")
        yield "multipart/form-data; boundary=x", changed(b"".join(parts) + b"--x--\r\n", rng)


def jsons(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    images = originals()
    values: tuple[object, ...] = (
        1,
        -1,
        0.5,
        None,
        True,
        "",
        "person",
        [],
        {},
        ["car", 1],
        "\0" + "1",
        "\ud800",
        10**30,
    )
    while True:
        body: dict[str, object] = {"image": b64encode(rng.choice(images)).decode()}
        for name in rng.sample(
            ("score_threshold", "max_detections", "classes", "masks", "format", "image_id", "other"), 2
        ):
            body[name] = rng.choice(values)
        encoding = rng.choice(("utf-8", "utf-8", "utf-16", "utf-8-sig"))
        yield "application/json", changed(json.dumps(body).encode(encoding), rng)


def changed(body: bytes, rng: random.Random) -> bytes:
    """Return the body, in half of the cases with bytes replaced, cut out or doubled."""
    if rng.random() < 0.5 or not body:
        return body
    start, length = rng.randrange(len(body)), rng.randint(1, 40)
    middle = rng.choice((b"", rng.randbytes(length), body[start : start + length] * 2))
    return body[:start] + middle + body[start + length :]


def requests(count: int, seed: int) -> Iterator[bytes]:
    """Yield whole requests, each of a kind in turn."""
    rng = random.Random(seed)
    images = (("image/jpeg", image) for image in mutated(count, seed))
    kinds = (images, forms(rng), jsons(rng))
    for number in range(count):
        media_type, body = next(kinds[number % 3])
        headers = [(b"Host", b"x"), (b"Content-Type", media_type.encode()), (b"Content-Length", b"%d" % len(body))]
        kind = rng.random()
        if kind < 0.1:
            packed = changed(gzip.compress(body), rng)
            headers[2:] = [(b"Content-Length", b"%d" % len(packed)), (b"Content-Encoding", b"gzip")]
            body = packed
        elif kind < 0.2:
            body = b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
            headers[2] = b"Transfer-Encoding", b"chunked"
            body = changed(body, rng)
        elif kind < 0.4:
            headers.insert(rng.randrange(4), (rng.choice(HEADERS).encode(), rng.choice(VALUES)))
        head = b"POST /v1/detect HTTP/1.1\r\n" + b"".join(b"%b: %b\r\n" % header for header in headers) + b"\r\n"
        yield (changed(head, rng) if 0.4 < kind < 0.5 else head) + body


def answer(port: int, request: bytes) -> str:
    """Send a request, and return the status of the answer; or that the connection was closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        data = b""
        with suppress(ConnectionError):
            connection.sendall(request)
            while not is_whole(data) and (block := connection.recv(65536)):
                data += block
    if not data:
        return "closed"
    assert data.startswith(b"HTTP/1.1 "), data[:200]
    return data[9:12].decode()


def is_whole(data: bytes) -> bool:
    """Return whether a response is complete; those without Content-Length end with the connection."""
    head, end, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    return bool(end and length and len(body) >= int(length[1]))


def fuzz(count: int) -> None:
    process = psutil.Process()
    runtime = FakeRuntime(before_run=lambda _: runtime.calls.clear())
    with live(runtime, log_level="error", header_seconds=0.3, body_seconds=0.3, idle_seconds=1) as url:
        port = httpx.URL(url).port or 80

        def ask(seed: int, count: int) -> Counter[str]:
            return Counter(answer(port, request) for request in requests(count, seed))

        with ThreadPoolExecutor(CLIENTS) as pool:
            statuses = sum(pool.map(ask, range(CLIENTS), [100] * CLIENTS), Counter[str]())
            settled, files, threads = process.memory_info().rss, process.num_fds(), process.num_threads()
            start = time.monotonic()
            statuses = sum(pool.map(ask, range(CLIENTS, 2 * CLIENTS), [count // CLIENTS] * CLIENTS), statuses)
        image = originals()[0]
        assert httpx.post(f"{url}/v1/detect", content=image).status_code == 200
        grown = (process.memory_info().rss - settled) / 2**20
        print(
            f"{count} requests in {time.monotonic() - start:.0f} s: {dict(sorted(statuses.items()))}, {grown:+.0f} MiB"
        )
        assert statuses["200"] and statuses["400"] and statuses["422"]
        assert not [status for status in statuses if status.startswith("5")]
        assert grown < MEGABYTES
        assert process.num_fds() <= files + 8  # of the client that asked last
        assert process.num_threads() <= threads + 2


def test_thousand_requests() -> None:
    fuzz(1500)


@pytest.mark.slow
def test_a_hundred_thousand_requests() -> None:
    fuzz(100_000)
