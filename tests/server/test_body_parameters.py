"""Nothing that a client says is ignored: parameters in the query, a form or JSON, and how bodies are packed."""

from __future__ import annotations

import gzip
import json
import zlib
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from resnest_core.runtimes import FakeRuntime
from tests.server.conftest import Serve, picture

URL = "/v1/detect"
IMAGE = picture()
JPEG = {"Content-Type": "image/jpeg"}
Ask = Callable[[TestClient, dict[str, Any]], httpx.Response]


def in_query(client: httpx.Client, parameters: dict[str, Any]) -> httpx.Response:
    return client.post(URL, params=parameters, content=IMAGE, headers=JPEG)


def in_form(client: httpx.Client, parameters: dict[str, Any]) -> httpx.Response:
    return client.post(URL, data=parameters, files={"file": ("a.jpg", IMAGE)})


def in_json(client: httpx.Client, parameters: dict[str, Any]) -> httpx.Response:
    return client.post(URL, json={"image": b64encode(IMAGE).decode(), **parameters})


@pytest.mark.parametrize("ask", [in_query, in_form, in_json])
class TestEverywhere:
    @pytest.mark.parametrize(
        ("parameters", "count"),
        [
            ({}, 3),
            ({"score_threshold": 0.6}, 2),
            ({"score_threshold": "0.6"}, 2),
            ({"max_detections": 1}, 1),
            ({"classes": "person"}, 1),
            ({"classes": ["person", "car"]}, 2),
            ({"classes": "1"}, 1),
            ({"masks": "none", "score_threshold": 0.6, "max_detections": 1}, 1),
        ],
    )
    def test_they_work(self, client: TestClient, ask: Ask, parameters: dict[str, Any], count: int) -> None:
        answer = ask(client, parameters)
        assert answer.status_code == 200, answer.text
        expected = in_query(client, {}).json()["detections"]
        found = answer.json()["detections"]
        assert len(found) == count
        assert all(one["box"] in [other["box"] for other in expected] for one in found)
        assert all(("mask" in one) == (parameters.get("masks") != "none") for one in found)

    def test_format_and_image_id(self, client: TestClient, ask: Ask) -> None:
        rows = ask(client, {"format": "coco", "image_id": 7}).json()
        assert {row["image_id"] for row in rows} == {7}

    @pytest.mark.parametrize(
        ("parameters", "says"),
        [
            ({"score_treshold": "0.5"}, "There is no parameter 'score_treshold': use one of score_threshold"),
            ({"conf": "0.9"}, "no parameter 'conf': score_threshold, from 0 to 1, is what you mean"),
            ({"confidence": 40}, "no parameter 'confidence': score_threshold"),
            ({"iou": "0.5"}, "no parameter 'iou': the threshold of non-maximum suppression is fixed"),
            ({"imgsz": 640}, "no parameter 'imgsz': the size"),
            ({"score_threshold": "high"}, "score_threshold can't be 'high'"),
            ({"score_threshold": 1.5}, "score_threshold can't be"),
            ({"max_detections": 0}, "max_detections can't be"),
            ({"classes": "unicorn"}, "no class 'unicorn'"),
            ({"masks": "all"}, "masks must be one of"),
            ({"format": "yolo"}, "format must be one of"),
        ],
    )
    def test_what_they_can_not_be(self, client: TestClient, ask: Ask, parameters: dict[str, Any], says: str) -> None:
        answer = ask(client, parameters)
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/bad-parameter")
        assert says in answer.json()["detail"]


@pytest.mark.parametrize("value", [True, None, {}, [], [0.5], {"a": 1}, "0.5x"])
@pytest.mark.parametrize("name", ["score_threshold", "max_detections", "format", "masks", "image_id"])
def test_other_types_of_json(client: TestClient, name: str, value: object) -> None:
    answer = in_json(client, {name: value})
    expected = 200 if value is None and name in ("score_threshold", "max_detections") else 422  # null: not given
    assert answer.status_code == expected


@pytest.mark.parametrize(("value", "status"), [([0, 1], 200), (1, 200), ([True], 422), ([None], 422), ({}, 422)])
def test_classes_in_json(client: TestClient, value: object, status: int) -> None:
    assert in_json(client, {"classes": value}).status_code == status


@pytest.mark.parametrize(
    ("query", "body", "status"),
    [
        ("score_threshold=0.6", {"score_threshold": "0.60"}, 200),
        ("score_threshold=0.6", {"score_threshold": "0.7"}, 422),
        ("score_threshold=0.6&score_threshold=0.6", {}, 200),
        ("score_threshold=0.6&score_threshold=0.7", {}, 422),
        ("classes=person&classes=car", {}, 200),
        ("classes=person", {"classes": "person"}, 200),
        ("classes=person", {"classes": "car"}, 422),
        ("masks=rle", {"masks": "none"}, 422),
    ],
)
def test_said_twice(client: TestClient, query: str, body: dict[str, str], status: int) -> None:
    encoded = {"image": b64encode(IMAGE).decode(), **body}
    answers = [
        client.post(f"{URL}?{query}", data=body, files={"file": IMAGE}),
        client.post(f"{URL}?{query}", json=encoded),
    ]
    for answer in answers:
        assert answer.status_code == status
        assert status == 200 or "is given twice" in answer.json()["detail"]


@pytest.mark.parametrize("twice", ['"score_threshold": 0.1, "score_threshold": 0.9', '"image": "", "image": ""'])
def test_said_twice_in_json(client: TestClient, twice: str) -> None:
    body = f'{{"image": "{b64encode(IMAGE).decode()}", {twice}}}'
    answer = client.post(URL, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == (400 if "image" in twice else 422)


@pytest.mark.parametrize("size", [len(IMAGE), 200_000])
def test_a_part_without_a_file_name_is_an_image(client: TestClient, size: int) -> None:
    image = IMAGE + bytes(size - len(IMAGE))
    part = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + image + b"\r\n--x--\r\n"
    answer = client.post(URL, content=part, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert answer.status_code == 200
    assert answer.json() == {**in_query(client, {}).json(), "timings_ms": answer.json()["timings_ms"]}


def test_a_file_in_another_field(client: TestClient) -> None:
    answer = client.post(URL, files={"file": IMAGE, "mask": IMAGE})
    assert (answer.status_code, "field 'mask'" in answer.json()["detail"]) == (422, True)
    assert client.post(URL, files={"image": IMAGE}).status_code == 400


PACKED = gzip.compress(IMAGE)


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (PACKED, "gzip", 200),
        (PACKED, "x-gzip", 200),
        (PACKED, "GZIP", 200),
        (gzip.compress(IMAGE[:100]) + gzip.compress(IMAGE[100:]), "gzip", 200),
        (IMAGE, "identity", 200),
        (PACKED[:-9], "gzip", 400),
        (IMAGE, "gzip", 400),
        (b"", "gzip", 400),
        (PACKED + b"more", "gzip", 400),
        (PACKED[:200] + bytes(8) + PACKED[208:], "gzip", 400),
        (zlib.compress(IMAGE), "deflate", 415),
        (IMAGE, "br", 415),
        (PACKED, "gzip, gzip", 415),
        (PACKED, "identity", 400),
    ],
)
def test_packed_bodies(client: TestClient, body: bytes, encoding: str, status: int) -> None:
    answer = client.post(URL, content=body, headers=JPEG | {"Content-Encoding": encoding})
    assert answer.status_code == status, answer.text


def test_a_packed_body_is_bounded_unpacked(serve: Serve) -> None:
    client = serve(FakeRuntime(), max_body_bytes=1_000_000)
    fits, bomb = (gzip.compress(IMAGE + bytes(size)) for size in (900_000, 500_000_000))
    assert client.post(URL, content=fits, headers=JPEG | {"Content-Encoding": "gzip"}).status_code == 200
    answer = client.post(URL, content=bomb, headers=JPEG | {"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/body-too-large")


def test_packed_forms_and_json(client: TestClient) -> None:
    request = client.build_request("POST", URL, files={"file": IMAGE}, data={"max_detections": "1"})
    packed = gzip.compress(request.read())
    headers = {"Content-Type": request.headers["Content-Type"], "Content-Encoding": "gzip"}
    assert len(client.post(URL, content=packed, headers=headers).json()["detections"]) == 1
    packed = gzip.compress(json.dumps({"image": b64encode(IMAGE).decode(), "max_detections": 2}).encode())
    headers["Content-Type"] = "application/json"
    assert len(client.post(URL, content=packed, headers=headers).json()["detections"]) == 2


@settings(max_examples=100)
@given(st.dictionaries(st.text(max_size=20), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=5,
), max_size=3))  # fmt: skip
def test_any_json_around_an_image_is_answered(any_client: TestClient, parameters: dict[str, Any]) -> None:
    body = json.dumps({"image": b64encode(IMAGE).decode()} | parameters)
    answer = any_client.post(URL, content=body.encode(), headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 400, 422)
    known = {"score_threshold", "max_detections", "classes", "masks", "format", "image_id", "image"}
    assert answer.status_code != 200 or set(parameters) <= known


@settings(max_examples=100)
@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=3), st.binary(max_size=200))
def test_any_form_is_answered(any_client: TestClient, fields: list[tuple[str, str]], junk: bytes) -> None:
    for file in (IMAGE, junk):
        answer = any_client.post(URL, data=dict(fields), files={"file": file})
        assert answer.status_code in (200, 400, 422)
        assert answer.status_code != 200 or not fields
    headers = JPEG | {"Content-Encoding": "gzip"}
    assert any_client.post(URL, content=PACKED[:50] + junk, headers=headers).status_code == 400


@pytest.fixture(scope="module")
def any_client() -> Any:
    from resnest_core.detector import InProcessDetector
    from resnest_server import Settings, create_app
    from resnest_server.engines import LocalEngine

    app = create_app(Settings(), [LocalEngine(InProcessDetector(FakeRuntime()), Settings())])
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client
