"""Bad requests: each gets one sentence as problem+json, and the next request is answered."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from struct import pack
from typing import Any

import pytest
from fastapi.testclient import TestClient

from resnest_core.runtimes import FakeRuntime
from tests.server.conftest import Serve, picture

DETECT = "/v1/models/fake/detect"
JPEG = {"Content-Type": "image/jpeg"}
TEXT = b"This is not an image."


def huge_png() -> bytes:
    """Return a PNG whose header promises 100,000 × 100,000 pixels."""
    header = b"IHDR" + pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = pack(">I", 13) + header + pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + pack(">I", 0) + b"IEND" + pack(">I", zlib.crc32(b"IEND"))


def assert_problem(response: Any, status: int, kind: str) -> str:
    """Check the answer's form, and return its sentence."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    body = response.json()
    assert body.keys() == {"type", "title", "status", "detail"}
    assert (body["type"], body["status"]) == (f"/problems/{kind}", status)
    detail: str = body["detail"]
    assert detail.endswith(".") and "\n" not in detail
    return detail


@pytest.mark.parametrize(
    ("body", "status", "kind", "says"),
    [
        (b"", 400, "not-an-image", "send a JPEG"),
        (TEXT, 400, "not-an-image", "send a JPEG"),
        (picture()[:-100], 400, "not-an-image", "cut short"),
        (picture(media_type="image/png")[:-100], 400, "not-an-image", "cut short"),
        (picture()[:30], 400, "not-an-image", "whole"),
        (huge_png(), 413, "image-too-large", "smaller"),
    ],
    ids=["empty", "text", "cut JPEG", "cut PNG", "cut header", "huge PNG"],
)
@pytest.mark.parametrize("way", ["raw", "form"])
def test_no_images(client: TestClient, body: bytes, status: int, kind: str, says: str, way: str) -> None:
    request: dict[str, Any] = {"content": body, "headers": JPEG} if way == "raw" else {"files": {"file": body}}
    assert says in assert_problem(client.post(DETECT, **request), status, kind)
    assert client.post(DETECT, content=picture(), headers=JPEG).status_code == 200


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{"),
        ("application/json", b"[]"),
        ("application/json", b"{}"),
        ("application/json", b'{"image": 3}'),
        ("application/json", b'{"image": "*"}'),
        ("application/json", json.dumps({"image": "ä"}).encode()),
        ("application/json", b"[" * 100_000),
        ("multipart/form-data", b"--x--"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"hello"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\ntext\r\n--x--\r\n',
        ),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n'),
    ],
)
def test_bodies_without_an_image(client: TestClient, content_type: str, body: bytes) -> None:
    response = client.post(DETECT, content=body, headers={"Content-Type": content_type})
    assert_problem(response, 400, "not-an-image")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "video/mp4", "", "image"])
def test_wrong_content_types(client: TestClient, content_type: str) -> None:
    response = client.post(DETECT, content=picture(), headers={"Content-Type": content_type})
    assert "send image/*" in assert_problem(response, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    "query",
    [
        {"score_threshold": "1.5"},
        {"score_threshold": "-0.1"},
        {"score_threshold": "nan"},
        {"score_threshold": "inf"},
        {"score_threshold": "high"},
        {"score_threshold": ""},
        {"max_detections": "0"},
        {"max_detections": "2.5"},
        {"classes": "unicorn"},
        {"classes": "3"},
        {"classes": "person,"},
        {"masks": "paper"},
        {"format": "xml"},
        {"image_id": "-1"},
        {"threshold": "0.5"},
    ],
)
def test_bad_parameters_are_named(client: TestClient, runtime: FakeRuntime, query: dict[str, str]) -> None:
    response = client.post(DETECT, content=picture(), headers=JPEG, params=query)
    detail = assert_problem(response, 422, "bad-parameter")
    assert next(iter(query)).removesuffix("es") in detail
    assert not runtime.calls


def test_a_drawing_of_several_images(client: TestClient) -> None:
    response = client.post(DETECT, files=[("file", picture())] * 2, headers={"Accept": "image/png"})
    assert "one image" in assert_problem(response, 422, "bad-parameter")


@pytest.mark.parametrize("path", ["/v1/models/absent/detect", "/v1/models/%2e%2e/detect", "/v1/models/a b/detect"])
def test_unknown_models(client: TestClient, path: str) -> None:
    detail = assert_problem(client.post(path, content=picture(), headers=JPEG), 404, "model-not-found")
    assert "use one of fake" in detail
    assert_problem(client.get(path.removesuffix("/detect")), 404, "model-not-found")


def test_unknown_routes_and_methods(client: TestClient) -> None:
    assert_problem(client.get("/v2"), 404, "not-found")
    assert_problem(client.get("/v1/detect"), 405, "method-not-allowed")


def test_checks_go_from_the_model_to_the_parameters(client: TestClient) -> None:
    bad_query, bad_type = {"score_threshold": "nan"}, {"Content-Type": "text/plain"}
    everything = client.post("/v1/models/absent/detect", content=TEXT, headers=bad_type, params=bad_query)
    assert_problem(everything, 404, "model-not-found")
    typed = client.post(DETECT, content=TEXT, headers=bad_type, params=bad_query)
    assert_problem(typed, 415, "unsupported-media-type")
    assert_problem(client.post(DETECT, content=TEXT, headers=JPEG, params=bad_query), 400, "not-an-image")
    assert_problem(client.post(DETECT, content=huge_png(), headers=JPEG, params=bad_query), 413, "image-too-large")


def blocks(body: bytes) -> Iterator[bytes]:
    """Yield the body in pieces: it is sent without a Content-Length."""
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


@pytest.mark.parametrize("way", ["with its length", "without its length", "form", "form without its length"])
def test_bodies_over_the_limit(serve: Serve, way: str) -> None:
    client = serve(FakeRuntime(), max_body_bytes=20_000)
    body = picture() + bytes(30_000)
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + body + b"\r\n--x--\r\n"
    form_headers = {"Content-Type": "multipart/form-data; boundary=x"}
    requests: dict[str, dict[str, Any]] = {
        "with its length": {"content": body, "headers": JPEG},
        "without its length": {"content": blocks(body), "headers": JPEG},
        "form": {"content": form, "headers": form_headers},
        "form without its length": {"content": blocks(form), "headers": form_headers},
    }
    assert "20,000 bytes" in assert_problem(client.post(DETECT, **requests[way]), 413, "body-too-large")
    assert client.post(DETECT, content=picture(), headers=JPEG).status_code == 200


def test_too_many_pixels(serve: Serve) -> None:
    client = serve(FakeRuntime(), max_pixels=1000)
    response = client.post(DETECT, content=picture(40, 60), headers=JPEG)
    assert "60×40 pixels, more than the 1,000" in assert_problem(response, 413, "image-too-large")
    assert client.post(DETECT, content=picture(20, 50), headers=JPEG).status_code == 200


def test_too_many_images(serve: Serve) -> None:
    client = serve(FakeRuntime(), max_images=2)
    response = client.post(DETECT, files=[("file", picture())] * 3)
    assert "at most 2 images" in assert_problem(response, 413, "body-too-large")
    assert len(client.post(DETECT, files=[("file", picture())] * 2).json()["results"]) == 2


def test_a_fault_of_the_server_tells_nothing_and_hurts_nobody_else(serve: Serve) -> None:
    faults = [RuntimeError("/a/path/of/the/server and a secret")]

    def fail(_: object) -> None:
        if faults:
            raise faults.pop()

    client = serve(FakeRuntime(before_run=fail))
    detail = assert_problem(client.post(DETECT, content=picture(), headers=JPEG), 500, "internal")
    assert "secret" not in detail and "path" not in detail
    assert client.post(DETECT, content=picture(), headers=JPEG).status_code == 200


LONG = "x" * 20_000


@pytest.mark.parametrize(
    ("path", "headers", "content"),
    [
        (f"/v1/models/{LONG}/detect", {}, picture()),
        (f"/v1/models/{LONG}", {}, None),
        (f"/{LONG}", {}, None),
        (f"/v1/detect?{LONG}=1", {}, picture()),
        (f"/v1/detect?classes={LONG}", {}, picture()),
        (f"/v1/detect?masks={LONG}", {}, picture()),
        (f"/v1/detect?format={LONG}", {}, picture()),
        (f"/v1/detect?score_threshold={LONG}", {}, picture()),
        ("/v1/detect", {"Content-Type": LONG}, picture()),
        ("/v1/detect", {"Content-Type": f"multipart/form-data; boundary={LONG}"}, b"--x"),
        ("/v1/detect", {"Content-Type": "application/json"}, b'{"image": "\\' + LONG.encode() + b'"}'),
        ("/v1/detect", {"Accept": LONG, "Content-Type": LONG}, picture()),
        ("/v1/detect", {"X-API-Key": LONG, "X-Request-ID": LONG}, b"x"),
    ],
)  # fmt: skip
def test_what_a_client_sends_is_quoted_in_part(
    client: TestClient, caplog: pytest.LogCaptureFixture, path: str, headers: dict[str, str], content: bytes | None
) -> None:
    caplog.set_level("INFO")
    answer = client.request("POST" if content else "GET", path, headers=headers, content=content)
    assert 400 <= answer.status_code < 500
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert len(answer.content) + sum(map(len, answer.headers.values())) < 2000
    records = [record for record in caplog.records if record.name.startswith("resnest")]
    assert all(len(record.getMessage()) + len(repr(record.__dict__.get("path"))) < 600 for record in records)
