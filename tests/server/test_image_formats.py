"""Formats behave alike in the gateway, in the process, through the client and in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

from resnest_client import HttpDetector
from resnest_core.detector import InProcessDetector
from resnest_core.errors import NotAnImageError
from resnest_core.image_folder import SUFFIXES
from resnest_core.runtimes import FakeRuntime
from tests.client.gateway import Gateway
from tests.client.test_detect import answers, detect, repository, run  # noqa: F401 - a fixture
from tests.core.encoded_images import PICTURE, PIXELS, Page, chunk, encoded, jpeg_with, png_with, tiff
from tests.core.test_heif import avif, heic, turned
from tests.core.test_tiff import REDUCED, SMALL
from tests.server.conftest import Serve
from tests.server.test_problems import assert_problem

DETECT = "/v1/models/fake/detect"
SOUND = {
    "a.heic": heic(),
    "b.heif": heic(exif=turned(6)),
    "c.avif": avif(),
    "d.jpe": jpeg_with(b"\0\1\2"),
    "e.jfif": encoded(PICTURE, "JPEG"),
    "f.mpo": encoded(PICTURE, "MPO", save_all=True, append_images=[PICTURE]),
    "g.tif": tiff(Page(SMALL, REDUCED), Page(PIXELS)),
    "h.apng": encoded(PICTURE, "PNG", save_all=True, append_images=[PICTURE.rotate(180)]),
    "i.png": png_with(chunk(b"iCCP", b"icc\0\0garbage")),
    "j.dib": encoded(PICTURE, "BMP"),
    "k.webp": encoded(PICTURE, "WEBP"),
    "l.gif": encoded(PICTURE, "GIF"),
}
TYPES = ["image/heic", "image/heif", "image/avif", "image/x-tiff", "image/jpg", "image/anything"]


def size_of(name: str) -> dict[str, int]:
    return {"width": 64, "height": 96} if name == "b.heif" else {"width": 96, "height": 64}


def test_every_suffix_of_a_folder_is_tried() -> None:
    assert {Path(name).suffix for name in SOUND} <= SUFFIXES


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_image_is_answered_in_every_way(name: str, client: TestClient) -> None:
    data = SOUND[name]
    bodies = [{"content": data, "headers": {"Content-Type": media_type}} for media_type in TYPES]
    for body in (*bodies, {"files": {"file": (name, data, "application/octet-stream")}}):
        response = client.post(DETECT, **body)  # type: ignore[arg-type]
        assert response.status_code == 200, response.text
        assert response.json()["image"] == size_of(name)
    gateway = Gateway()
    with HttpDetector("http://gateway", transport=gateway) as remote:
        found = remote.detect(data)
    assert gateway.requests[-1].headers["Content-Type"].startswith("image/")
    local = InProcessDetector(FakeRuntime()).detect(data)
    np.testing.assert_array_equal(found.boxes_xyxy, local.boxes_xyxy)
    assert found.image_size_hw == local.image_size_hw == tuple(size_of(name)[side] for side in ("height", "width"))


@pytest.mark.usefixtures("repository")
def test_a_folder_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, data in SOUND.items():
        (folder / name).write_bytes(data)
    (folder / "._a.heic").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    result = detect(folder, "--model", "first")
    rows = answers(result)
    assert [(Path(row["file"]).name, row["image"]) for row in rows] == [(name, size_of(name)) for name in SOUND]
    assert result.stderr == f"1 file left out: {folder}/._a.heic.\n"


REFUSED = {
    "floats": (tiff(Page((PIXELS / 255).astype(np.float32))), "This is a TIFF of 32-bit floats: convert it to 8 bits."),
    "JPEG XL": (b"\xff\x0a" + b"\0" * 40, "This is a JPEG XL image: send a JPEG, PNG, WebP, BMP, TIFF or GIF file."),
    "cut HEIC": (heic()[:-50], "The HEIC file is damaged or cut short: send it again, whole."),
    "cut AVIF": (avif()[:-50], "The AVIF file is damaged or cut short: send it again, whole."),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_400_with_the_same_sentence_everywhere(name: str, client: TestClient) -> None:
    data, sentence = REFUSED[name]
    response = client.post(DETECT, content=data, headers={"Content-Type": "image/*"})
    assert assert_problem(response, 400, "not-an-image") == sentence
    together = client.post(DETECT, files=[("file", data), ("file", SOUND["k.webp"])]).json()["results"]
    assert (together[0]["detail"], together[1]["image"]) == (sentence, size_of("k.webp"))
    with HttpDetector("http://gateway", transport=Gateway()) as remote, pytest.raises(NotAnImageError) as caught:
        remote.detect(data)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("name", ["a.heic", "c.avif", "g.tif"])
def test_pixels_are_limited_before_decoding(name: str, serve: Serve) -> None:
    client = serve(FakeRuntime(), max_pixels=96 * 64 - 1)
    response = client.post(DETECT, content=SOUND[name], headers={"Content-Type": "image/*"})
    assert "96×64 pixels, more than the 6,143 allowed" in assert_problem(response, 413, "image-too-large")


def test_a_client_without_the_decoder_leaves_it_to_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response | None:
        asked.append(request.headers["Content-Type"])
        body = {"type": "/problems/not-an-image", "title": "", "status": 400, "detail": "Not here."}
        return httpx.Response(400, content=json.dumps(body), headers={"Content-Type": "application/problem+json"})

    monkeypatch.setattr("resnest_core.heif.missing_decoder", lambda _: "it is not installed")
    with HttpDetector("http://gateway", transport=Gateway(intercept=answer)) as remote:
        for data in (SOUND["a.heic"], SOUND["c.avif"]):
            with pytest.raises(NotAnImageError, match="Not here"):
                remote.detect(data)
    assert asked == ["image/heic", "image/avif"]


def test_the_command_says_nothing_of_sound_images(tmp_path: Path) -> None:
    names = ["a.heic", "d.jpe", "h.apng", "i.png"]
    for name in names:
        (tmp_path / name).write_bytes(SOUND[name])
    result = run("detect", tmp_path, "--model", "demo", "--runtime", "onnxruntime")
    assert (result.returncode, result.stderr) == (0, "")
    assert [row["image"] for row in json.loads(result.stdout)] == [size_of(name) for name in names]
