"""`resnest detect --format`: any row of FORMATS, and nothing but the row is needed for a new one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from resnest_core.errors import ParameterError
from resnest_core.formats import FORMATS
from resnest_core.runtimes import FakeRuntime
from tests.client.served import Serve
from tests.client.test_detect import detect

OBJECTS = sorted(name for name, answer_format in FORMATS.items() if not answer_format.is_list)
KEYS = {
    "native": {"file", "model", "image", "detections", "timings_ms"},
    "roboflow": {"file", "model", "image", "predictions", "inference_id", "time"},
    "ultralytics": {"file", "model", "images", "metadata"},
}

# Registers a format in FORMATS alone, then asks for it over HTTP and on the command line.
TOY = """
import sys
from resnest_core.formats import FORMATS, AnswerFormat
FORMATS["toy"] = AnswerFormat(
    lambda detections, card, *, masks="rle", image_id=0: {"count": len(detections.scores)},
    lambda answer, timings_ms: answer.update(ms=timings_ms["total"]),
)
FORMATS["toys"] = AnswerFormat(
    lambda detections, card, *, masks="rle", image_id=0: [image_id] * len(detections.scores), is_list=True
)
import json
from pathlib import Path
import httpx
from tests.client.served import Served
from tests.client.test_detect import detect

folder, output = Path(sys.argv[1]), Path(sys.argv[2])
server = Served()
data = (folder / "0.png").read_bytes()
answer = httpx.post(f"{server.url}/v1/detect?format=toy", content=data, headers={"Content-Type": "image/png"}).json()
parameters = httpx.get(f"{server.url}/openapi.json").json()["paths"]["/v1/detect"]["post"]["parameters"]
enum = next(parameter["schema"]["enum"] for parameter in parameters if parameter["name"] == "format")
listed = detect(folder, "--url", server.url, "--format", "toy")
flat = detect(folder, "--url", server.url, "--format", "toys")
lines = detect(folder, "--url", server.url, "--format", "toy", "--output", output)
help = detect("--help")
server.stop()
print(json.dumps({
    "http": answer, "enum": enum, "listed": json.loads(listed.stdout), "flat": json.loads(flat.stdout),
    "lines": [json.loads(line) for line in output.read_text().splitlines()], "help": "toys" in help.stdout,
}))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(2):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((20, 30, 3), 9, np.uint8))
    return folder


def test_a_new_format_is_one_row(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", TOY, str(folder), str(tmp_path / "toy.jsonl")]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)
    assert found["http"]["count"] == 3 and found["http"]["ms"] > 0
    assert found["enum"] == [*FORMATS, "toy", "toys"]
    assert [(Path(row["file"]).name, row["model"], row["count"]) for row in found["listed"]] == [
        ("0.png", "fake", 3),
        ("1.png", "fake", 3),
    ]
    assert found["flat"] == [0] * 3 + [1] * 3
    assert [row["count"] for row in found["lines"]] == [3, 3]
    assert found["help"]


@pytest.mark.parametrize("name", OBJECTS)
def test_answers_are_objects_with_their_file(serve: Serve, folder: Path, tmp_path: Path, name: str) -> None:
    url = serve(FakeRuntime()).url
    listed = json.loads(detect(folder, "--url", url, "--format", name).stdout)
    output = tmp_path / "answers.jsonl"
    arguments: list[str | Path] = [folder, "--url", url, "--format", name, "--output", output]
    assert detect(*arguments).exit_code == 0
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    for rows in (listed, lines):
        assert [row["file"] for row in rows] == [str(folder / "0.png"), str(folder / "1.png")]
        assert all(row.keys() == KEYS[name] and row["model"] == "fake" for row in rows)
    assert detect(*arguments).stderr == "2 of 2 images are done already.\n"


@pytest.mark.parametrize("forget", [False, True])
@pytest.mark.parametrize("first", OBJECTS)
def test_lines_of_two_formats_are_not_mixed(
    serve: Serve, folder: Path, tmp_path: Path, first: str, forget: bool
) -> None:
    url = serve(FakeRuntime()).url
    output = tmp_path / "answers.jsonl"
    detect(folder / "0.png", "--url", url, "--format", first, "--output", output)
    if forget:
        (tmp_path / "answers.jsonl.source.json").unlink()
    before = output.read_bytes()
    for second in OBJECTS:
        if second != first:
            result = detect(folder, "--url", url, "--format", second, "--output", output)
            assert isinstance(result.exception, ParameterError), second
            assert output.read_bytes() == before


def test_an_unknown_format(folder: Path) -> None:
    result = detect(folder, "--format", "yolo")
    assert isinstance(result.exception, ParameterError)
    assert str(result.exception) == f"--format must be one of {', '.join(FORMATS)}, not yolo."
