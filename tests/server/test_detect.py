"""What the detection routes answer, on the fake runtime."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from resnest_core import tensors
from resnest_core.detector import InProcessDetector
from resnest_core.drawing import draw
from resnest_core.formats import FORMATS, native
from resnest_core.images import decode_image
from resnest_core.runtimes import FakeRuntime
from resnest_core.runtimes.fake import FAKE_CARD
from resnest_server import Settings, create_app
from resnest_server.engines import LocalEngine
from tests.server.conftest import Serve, picture

JPEG = {"Content-Type": "image/jpeg"}
DETECT = "/v1/models/fake/detect"


def post(client: TestClient, image: bytes | None = None, path: str = DETECT, **query: Any) -> Any:
    """Send an image, and return the JSON that answers it."""
    response = client.post(path, content=picture() if image is None else image, headers=JPEG, params=query)
    assert response.status_code == 200, response.text
    return response.json()


def test_answer_is_that_of_the_detector_in_the_process(client: TestClient, runtime: FakeRuntime) -> None:
    answer = post(client)
    timings = answer.pop("timings_ms")
    assert answer == json.loads(json.dumps(native(InProcessDetector(runtime).detect(picture()), FAKE_CARD)))
    assert set(timings) == {"decode", "resize", "queue", "network", "format", "total"}
    assert 0 < max(time for name, time in timings.items() if name != "total") <= timings["total"]


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png"])
@pytest.mark.parametrize("way", ["raw", "raw of another type", "raw of no type", "form", "json", "data url"])
def test_ways_to_send_an_image(client: TestClient, way: str, media_type: str) -> None:
    image = picture(30, 50, media_type)
    encoded = base64.b64encode(image).decode()
    requests: dict[str, dict[str, Any]] = {
        "raw": {"content": image, "headers": {"Content-Type": media_type}},
        "raw of another type": {"content": image, "headers": {"Content-Type": "image/x-anything; q=1"}},
        "raw of no type": {"content": image},
        "form": {"files": {"file": ("a.bin", image, "application/octet-stream")}},
        "json": {"json": {"image": encoded}},
        "data url": {"json": {"image": f"data:{media_type};base64,{encoded}"}},
    }
    response = client.post(DETECT, **requests[way])
    assert response.status_code == 200, response.text
    assert response.json()["image"] == {"width": 50, "height": 30}
    assert len(response.json()["detections"]) == 3


def test_several_images_are_answered_in_order(client: TestClient) -> None:
    files = [("file", (f"{height}.jpg", picture(height))) for height in (30, 20, 40)]
    results = client.post(DETECT, files=files).json()["results"]
    assert [result["image"]["height"] for result in results] == [30, 20, 40]


def test_a_bad_image_among_several_is_a_problem_in_its_place(client: TestClient) -> None:
    files = [("file", picture(30)), ("file", picture(20)[:200]), ("file", b"no image"), ("file", picture(40))]
    results = client.post(DETECT, files=files).json()["results"]
    assert [result["image"]["height"] for result in (results[0], results[3])] == [30, 40]
    problems = [(problem["status"], problem["type"]) for problem in results[1:3]]
    assert problems == [(400, "/problems/not-an-image")] * 2


@settings(max_examples=30, deadline=None)
@given(
    threshold=st.none() | st.floats(0, 1),
    count=st.none() | st.integers(1, 12),
    classes=st.lists(st.sampled_from(["person", "bicycle", "car", "0", "2"]), max_size=3),
    joined=st.booleans(),
)
def test_only_what_is_asked_for(threshold: float | None, count: int | None, classes: list[str], joined: bool) -> None:
    runtime = FakeRuntime(count=9)
    asked = {
        "score_threshold": threshold,
        "max_detections": count,
        "classes": ",".join(classes) or None if joined else classes,
    }
    query: dict[str, Any] = {name: value for name, value in asked.items() if value not in (None, [])}
    engine = LocalEngine(InProcessDetector(runtime), Settings())
    with TestClient(create_app(Settings(), [engine])) as client:
        found = post(client, **query)["detections"]
    labels = {label for label, name in enumerate(FAKE_CARD.classes) if {name, str(label)} & set(classes)}
    everything = native(InProcessDetector(FakeRuntime(count=9)).detect(picture()), FAKE_CARD)["detections"]
    lowest = max(0.05, np.float32(threshold or 0))
    expected = [row for row in everything if row["score"] > lowest and (row["label"] in labels or not classes)]
    assert [row["score"] for row in found] == [row["score"] for row in expected[:count]]
    assert runtime.calls[0][tensors.SCORE_THRESHOLDS].item() == pytest.approx(max(0.05, threshold or 0))


def test_masks_that_nobody_wants_are_not_computed(client: TestClient, runtime: FakeRuntime) -> None:
    assert ["mask" in row for row in post(client, masks="none")["detections"]] == [False] * 3
    assert ["counts" in row["mask"] for row in post(client)["detections"]] == [True] * 3
    assert [call[tensors.WANT_MASKS].item() for call in runtime.calls] == [False, True]


def test_a_model_without_masks(serve: Serve) -> None:
    client = serve(FakeRuntime(FAKE_CARD.model_copy(update={"mask_size": None})))
    assert ["mask" in row for row in post(client)["detections"]] == [False] * 3


@pytest.mark.parametrize("masks", ["rle", "polygons", "png", "raw", "none"])
@pytest.mark.parametrize("name", FORMATS)
def test_formats_and_forms(
    client: TestClient, runtime: FakeRuntime, name: str, masks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS, name, replace(FORMATS[name], add_timings=None))
    answer = post(client, format=name, masks=masks)
    found = InProcessDetector(runtime).detect(picture(), masks=masks != "none")
    expected = json.loads(json.dumps(FORMATS[name].make(found, FAKE_CARD, masks=masks)))
    assert without_ids(answer) == without_ids(expected)
    assert [call[tensors.WANT_MASKS].item() for call in runtime.calls] == [masks != "none"] * 2


def without_ids(answer: Any) -> Any:
    """Leave out what is another for each answer: Roboflow's ids."""
    if isinstance(answer, dict):
        return {key: without_ids(value) for key, value in answer.items() if key not in ("detection_id", "inference_id")}
    return [without_ids(value) for value in answer] if isinstance(answer, list) else answer


def test_formats_tell_the_time_where_they_have_a_place_for_it(client: TestClient) -> None:
    assert post(client, format="native")["timings_ms"]["total"] > 0
    assert post(client, format="roboflow")["time"] > 0
    assert post(client, format="ultralytics")["images"][0]["speed"]["inference"] >= 0


def test_coco_takes_the_id_of_the_image_and_counts_on(client: TestClient) -> None:
    assert {row["image_id"] for row in post(client, format="coco")} == {0}
    assert {row["image_id"] for row in post(client, format="coco", image_id=42)} == {42}
    files = [("file", picture(30)), ("file", picture(20))]
    results = client.post(DETECT, files=files, params={"format": "coco", "image_id": 7}).json()["results"]
    assert [{row["image_id"] for row in rows} for rows in results] == [{7}, {8}]


def test_a_drawing_is_of_what_was_asked_for(client: TestClient, runtime: FakeRuntime) -> None:
    headers = {**JPEG, "Accept": "image/png"}
    image = picture(120, 200)

    def drawn(**query: Any) -> Any:
        return decode_image(client.post(DETECT, content=image, headers=headers, params=query).content)

    found = InProcessDetector(runtime).detect(image, score_threshold=0.3)
    np.testing.assert_array_equal(drawn(), draw(decode_image(image), found, FAKE_CARD))
    np.testing.assert_array_equal(drawn(max_detections=1), draw(decode_image(image), found[:1], FAKE_CARD))
    assert runtime.calls[-1][tensors.SCORE_THRESHOLDS].item() == pytest.approx(0.3)
    np.testing.assert_array_equal(drawn(score_threshold=1), decode_image(image))


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_large_answers_are_compressed(serve: Serve, encoding: str) -> None:
    client = serve(FakeRuntime(count=100))

    def ask(masks: str) -> Any:
        headers = {**JPEG, "Accept-Encoding": encoding}
        return client.post(DETECT, content=picture(), headers=headers, params={"masks": masks})

    large, small = ask("raw"), ask("none")
    assert large.headers["Content-Encoding"] == encoding
    assert len(large.json()["detections"]) == len(small.json()["detections"])
    assert "Content-Encoding" not in small.headers


def test_the_default_model_is_the_first_by_name_unless_named(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    runtimes = [FakeRuntime(FAKE_CARD.model_copy(update={"name": name})) for name in ("second", "first")]
    client = serve(*runtimes)
    assert "/v1/detect uses first, the first of first, second." in caplog.text
    assert post(client, path="/v1/detect")["model"] == "first"
    assert client.get("/v1/models").json()["default"] == "first"
    assert post(serve(*runtimes, default_model="second"), path="/v1/detect")["model"] == "second"


def test_models_show_their_cards(client: TestClient) -> None:
    card = FAKE_CARD.model_dump(mode="json") | {"runtime": "fake", "device": "cpu", "published": None}
    assert client.get("/v1/models").json() == {"models": [card], "default": "fake"}
    assert client.get("/v1/models/fake").json() == card


def test_health(client: TestClient) -> None:
    assert client.get("/health/live").status_code == client.get("/health/ready").status_code == 200
