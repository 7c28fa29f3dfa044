"""No client keeps the event loop: the CPU time of its longest callback, however large or odd the body."""

from __future__ import annotations

import asyncio
import gc
import time
import zlib
from asyncio.events import Handle
from base64 import b64encode
from collections.abc import AsyncIterator
from struct import pack

import httpx
import pytest

from resnest_core.detector import InProcessDetector
from resnest_core.image_header import read_header
from resnest_core.runtimes import FakeRuntime
from resnest_server import Settings, create_app
from resnest_server.engines import LocalEngine
from tests.server.conftest import picture

FORM = "multipart/form-data; boundary=x"
LIMIT = 0.020  # seconds of CPU time
DETECT = "/v1/models/fake/detect"


def chunk(name: bytes, content: bytes) -> bytes:
    return pack(">I", len(content)) + name + content + pack(">I", zlib.crc32(name + content))


def png_of_texts() -> bytes:
    """Return a small PNG with 60 texts of 1 MB each, packed."""
    png = picture(media_type="image/png")
    text = chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(1_000_000)))
    return png[:33] + text * 60 + png[33:]


def jpeg_of_comments() -> bytes:
    jpeg = picture()
    return jpeg[:2] + b"\xff\xfe\0\2" * 30_000 + jpeg[2:]


def part(name: str, content: bytes) -> bytes:
    return b'--x\r\nContent-Disposition: form-data; name="%b"; filename="a"\r\n\r\n' % name.encode() + content + b"\r\n"


JSON = b'{"image": "' + b64encode(picture() + bytes(23_000_000)) + b'"}'
BODIES = {
    "texts": (png_of_texts(), "image/png"),
    "comments": (jpeg_of_comments(), "image/jpeg"),
    "JSON": (JSON, "application/json"),
    "form": (part("file", picture() + bytes(20_000_000)) + b"--x--\r\n", FORM),
    "many parts": (
        b"".join(part("other", bytes(200_000)) for _ in range(15)) + part("file", picture()) + b"--x--\r\n",
        FORM,
    ),
    "many fields": (
        b"".join(part("other", bytes(200_000)).replace(b'; filename="a"', b"") for _ in range(99))
        + part("file", picture())
        + b"--x--\r\n",
        FORM,
    ),
    "lines": (b"".join(part("file", picture() + bytes(1_000_000)) for _ in range(16)) + b"--x--\r\n", FORM),
}  # fmt: skip


def test_texts_of_a_png_are_not_unpacked() -> None:
    plain = read_header(picture(media_type="image/png"))
    start = time.thread_time()
    assert read_header(png_of_texts()) == plain
    assert time.thread_time() - start < LIMIT


@pytest.mark.parametrize("kind", BODIES)
def test_no_callback_takes_long(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body, media_type = BODIES[kind]
    longest = [0.0]
    run = Handle._run

    def timed(handle: Handle) -> None:
        start = time.thread_time()
        run(handle)
        longest[0] = max(longest[0], time.thread_time() - start)

    async def blocks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]
            await asyncio.sleep(0)  # as over a connection, where each block is a callback of its own

    async def post() -> None:
        runtime = FakeRuntime()
        app = create_app(Settings(), [LocalEngine(InProcessDetector(runtime), Settings())])
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
                await client.post(DETECT, content=picture(), headers={"Content-Type": "image/jpeg"})
                headers = {"Content-Type": media_type, "Accept": "application/x-ndjson" if kind == "lines" else "*/*"}
                gc.collect()
                gc.freeze()  # what other tests have left in this process costs the collector time, too
                monkeypatch.setattr(Handle, "_run", timed)
                answers = await asyncio.gather(
                    *(client.post(DETECT, content=blocks(), headers=headers) for _ in range(2))
                )
                monkeypatch.undo()
                gc.unfreeze()
        expected = 422 if kind.startswith("many") else 200  # only the field `file` may hold files
        assert [answer.status_code for answer in answers] == [expected] * 2

    asyncio.run(post())
    print(f"{kind}: {longest[0] * 1000:.1f} ms")
    assert 0 < longest[0] < LIMIT
