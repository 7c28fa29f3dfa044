"""`resnest detect`, on the demo model and behind a fake runtime or gateway."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from pycocotools import mask as coco_mask
from typer.testing import CliRunner, Result

import resnest_client
from resnest_client import HttpDetector, commands
from resnest_core.card import ModelCard
from resnest_core.errors import AccessError, ModelNotFoundError, ParameterError, RuntimeUnavailableError
from resnest_core.images import load_image
from resnest_core.runtimes import RUNTIMES, FakeRuntime
from tests.client.gateway import Gateway
from tests.client.served import Serve

ROOT = Path(__file__).parents[2]
PHOTOGRAPHS = ROOT / "tests" / "data" / "demo" / "images"
RESNEST = "from resnest_core.cli import main; main()"


def detect(*arguments: str | Path) -> Result:
    app = typer.Typer()
    commands.register(app)
    return CliRunner().invoke(app, ["detect", *map(str, arguments)])


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of two models that a fake runtime runs."""
    for name in RUNTIMES:
        monkeypatch.setitem(RUNTIMES, name, FakeRuntime)
    repository = tmp_path / "repository"
    for name in ("second", "first"):
        path = repository / f"{name}_network" / "1" / "model.onnx"
        path.parent.mkdir(parents=True)
        path.touch()
    monkeypatch.setenv("RESNEST_REPOSITORY", str(repository))
    return repository


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images in a folder, and what is none."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, side in (("000000000042.png", 20), ("b.jpg", 30), ("a.JPG", 40)):
        cv2.imwrite(str(folder / name), np.full((side, 2 * side, 3), side, np.uint8))
    (folder / "notes.txt").write_text("not an image")
    return folder


def answers(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    rows: list[dict[str, Any]] = json.loads(result.stdout)
    return rows


@pytest.mark.usefixtures("repository")
def test_a_folder_in_order_then_a_file(folder: Path) -> None:
    rows = answers(detect(folder, folder / "b.jpg"))
    files = ["000000000042.png", "a.JPG", "b.jpg", "b.jpg"]
    assert [row["file"] for row in rows] == [str(folder / file) for file in files]
    assert [row["image"]["height"] for row in rows] == [20, 40, 30, 30]
    for row in rows:
        assert row.keys() == {"file", "model", "image", "detections", "timings_ms"}
        assert [found["class"] for found in row["detections"]] == ["person", "bicycle", "car"]
        assert row["timings_ms"]["total"] >= 0


@pytest.mark.usefixtures("repository")
def test_the_model_taken_is_said_on_stderr(folder: Path) -> None:
    result = detect(folder / "b.jpg")
    assert result.stderr == "Using first, the first of first, second; --model names another.\n"
    assert detect(folder / "b.jpg", "--model", "second").stderr == ""


def test_the_only_model_is_taken_without_a_word(repository: Path, folder: Path) -> None:
    (repository / "second_network").rename(repository / "put away")
    assert detect(folder / "b.jpg").stderr == ""


@pytest.mark.usefixtures("repository")
def test_answers_into_a_file(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "answers.json"
    result = detect(folder, "--output", output)
    assert (result.exit_code, result.stdout) == (0, "")
    assert [row["image"]["height"] for row in json.loads(output.read_text())] == [20, 40, 30]


@pytest.mark.usefixtures("repository")
def test_coco_results_are_one_flat_list(folder: Path) -> None:
    rows = answers(detect(folder, "--format", "coco"))
    assert [row["image_id"] for row in rows] == [0] * 3 + [1] * 3 + [2] * 3
    assert [row["category_id"] for row in rows] == [1, 2, 3] * 3
    for row, side in zip(rows, [20] * 3 + [40] * 3 + [30] * 3, strict=True):
        x, y, width, height = row["bbox"]
        assert min(x, y, width, height) > 0
        assert x + width <= 2 * side
        assert y + height <= side
        assert coco_mask.decode(row["segmentation"]).shape == (side, 2 * side)


@pytest.mark.usefixtures("repository")
def test_a_box_is_one_line_for_the_eye(folder: Path) -> None:
    result = detect(folder / "b.jpg", "--masks", "polygons")
    [row] = answers(result)
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert len(row["detections"]) == 3
    for found in row["detections"]:
        assert f'"box": {json.dumps(found["box"])},' in lines
        assert any(line.startswith(json.dumps(found["mask"][0][0][0])) for line in lines)


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize(
    ("masks", "keys"),
    [("rle", {"size", "counts"}), ("raw", {"shape", "dtype", "data"}), ("png", {"offset", "size", "data"})],
)
def test_forms_of_masks(folder: Path, masks: str, keys: set[str]) -> None:
    (row,) = answers(detect(folder / "b.jpg", "--masks", masks))
    assert [found["mask"].keys() for found in row["detections"]] == [keys] * 3


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("answer_format", ["native", "coco"])
def test_no_masks(folder: Path, answer_format: str) -> None:
    rows = answers(detect(folder / "b.jpg", "--masks", "none", "--format", answer_format))
    found = rows[0]["detections"] if answer_format == "native" else rows
    assert len(found) == 3
    assert not any({"mask", "segmentation"} & row.keys() for row in found)


@pytest.mark.usefixtures("repository")
def test_the_threshold_counts(folder: Path) -> None:
    (row,) = answers(detect(folder / "b.jpg", "--score-threshold", "0.6"))
    assert [found["score"] for found in row["detections"]] == [0.9, 0.72]


@pytest.mark.usefixtures("repository")
def test_drawings(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "drawings"
    result = detect(folder, "--output", output)
    assert (result.exit_code, result.stdout) == (0, "")
    assert sorted(path.name for path in output.iterdir()) == ["000000000042.png", "a.JPG", "b.jpg"]
    for name in ("000000000042.png", "a.JPG"):
        before, after = load_image(folder / name), load_image(output / name)
        assert before.shape == after.shape
        assert np.abs(before.astype(int) - after).max() > 50
    assert (output / "000000000042.png").read_bytes().startswith(b"\x89PNG")
    assert (output / "a.JPG").read_bytes().startswith(b"\xff\xd8\xff")


@pytest.mark.usefixtures("repository")
def test_drawings_never_overwrite_the_images(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for output in (folder, folder / ".." / folder.name):
        result = detect(folder, "--output", output)
        assert isinstance(result.exception, ParameterError)
        assert "holds the images themselves" in str(result.exception)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("output", ["drawings", "answers.json"])
def test_output_that_can_not_be_written(folder: Path, tmp_path: Path, output: str) -> None:
    taken = tmp_path / output
    (taken / "b.jpg").mkdir(parents=True)
    result = detect(folder / "b.jpg", "--output", taken)
    assert isinstance(result.exception, ParameterError)
    assert "can't be written (Is a directory): name another --output." in str(result.exception)


@pytest.mark.usefixtures("repository")
def test_a_single_bad_image_is_one_sentence(folder: Path) -> None:
    result = detect(folder / "notes.txt", "--model", "first")
    assert (result.exit_code, json.loads(result.stdout)) == (2, [])
    assert result.stderr.startswith(f"{folder / 'notes.txt'}: This is not an image")
    assert result.stderr.count("\n") == 1


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("output", [None, "answers.json", "drawings"])
def test_a_bad_image_among_good_ones(folder: Path, tmp_path: Path, output: str | None) -> None:
    (folder / "aa.jpg").write_bytes((folder / "b.jpg").read_bytes()[:100])
    result = detect(folder, "--model", "first", *([f"--output={tmp_path / output}"] if output else []))
    assert result.exit_code == 2
    left_out, first, last = result.stderr.splitlines()
    assert left_out == f"1 file left out: {folder / 'notes.txt'}."
    assert first.startswith(f"{folder / 'aa.jpg'}: The ")
    assert last == "1 of 4 images couldn't be used."
    if output == "drawings":
        assert len(list((tmp_path / output).iterdir())) == 3
    else:
        written = (tmp_path / output).read_text() if output else result.stdout
        assert [Path(row["file"]).name for row in json.loads(written)] == ["000000000042.png", "a.JPG", "b.jpg"]


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (["absent.jpg"], ParameterError, "There is no file or folder absent.jpg."),
        ([ROOT / "tests" / "client"], ParameterError, "holds no images"),
        ([PHOTOGRAPHS, "--model", "third"], ModelNotFoundError, "There is no model 'third'"),
        ([PHOTOGRAPHS, "--runtime", "abacus"], ParameterError, "There is no runtime 'abacus'"),
        ([PHOTOGRAPHS, "--repository", "absent"], ModelNotFoundError, "There are no models in absent"),
        ([PHOTOGRAPHS, "--masks", "paper"], ParameterError, "masks must be one of"),
        ([PHOTOGRAPHS, "--score-threshold", "2"], ParameterError, "score_threshold must be"),
        ([PHOTOGRAPHS, "--output", "drawing.png"], ParameterError, "must be a FILE.json, a FILE.jsonl, or a"),
        ([PHOTOGRAPHS, "--output", Path(__file__)], ParameterError, "can't be made (File exists)"),
        ([PHOTOGRAPHS, "--output", Path(__file__) / "x.json"], ParameterError, "can't be made"),
        ([PHOTOGRAPHS, "--url", "ftp://localhost"], ParameterError, "is not an address of HTTP"),
        ([PHOTOGRAPHS, "--url", "grpc://"], ParameterError, "grpc:// is not an address of gRPC: use one such as"),
        ([PHOTOGRAPHS, "--url", "grpc://127.0.0.1:9"], RuntimeUnavailableError, "Triton can't be reached at 127.0.0.1"),
        ([PHOTOGRAPHS, "--url", "grpc://x", "--api-key", "a"], ParameterError, "Triton asks for none"),
        ([PHOTOGRAPHS, "--url", "grpc://x", "--device", "cpu"], ParameterError, "--device can't be chosen with --url"),
        ([PHOTOGRAPHS, "--url", "http://127.0.0.1:9"], RuntimeUnavailableError, "can't be reached"),
        ([PHOTOGRAPHS, "--url", "http://x", "--api-key", "a b"], ParameterError, "printable ASCII"),
        ([PHOTOGRAPHS, "--url", "http://x", "--runtime", "openvino"], ParameterError, "--runtime can't be chosen with"),
        ([PHOTOGRAPHS, "--url", "http://x", "--device", "cpu"], ParameterError, "--device can't be chosen with --url"),
        (
            [PHOTOGRAPHS, "--url", "http://x", "--device", "cpu", "--repository", "y"],
            ParameterError,
            "--device and --repository can't be chosen with --url: the server has its own.",
        ),
        ([PHOTOGRAPHS, "--concurrency", "2"], ParameterError, "--concurrency is for --url"),
        ([PHOTOGRAPHS, "--url", "http://x", "--concurrency", "0"], ParameterError, "--concurrency must be at least 1"),
    ],
)
def test_what_can_not_be_done(arguments: list[str | Path], error: type[Exception], sentence: str) -> None:
    result = detect(*arguments)
    assert isinstance(result.exception, error), result.output
    assert sentence in str(result.exception)
    assert result.stdout == ""


def test_over_http_as_in_the_process(repository: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway()
    monkeypatch.setattr(resnest_client, "HttpDetector", partial(HttpDetector, transport=gateway))
    (folder / "broken.png").write_bytes((folder / "000000000042.png").read_bytes()[:60])
    for arguments in ([], ["--format", "coco"], ["--masks", "polygons"], ["--score-threshold", "0.6"]):
        remote = detect(folder, "--url", "http://gateway", *arguments)
        local = detect(folder, "--model", "first", "--repository", repository, *arguments)
        assert remote.exit_code == local.exit_code == 2
        assert remote.stderr == local.stderr
        assert without_times(json.loads(remote.stdout)) == without_times(json.loads(local.stdout))


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("concurrency", [None, 1, 3])
def test_requests_in_flight(serve: Serve, tmp_path: Path, concurrency: int | None) -> None:
    """`$RESNEST_REPOSITORY` is set here: it isn't an option given."""
    runtime = FakeRuntime(before_run=lambda _: time.sleep(0.02))
    served = serve(runtime)
    files = [tmp_path / f"{number:02}.png" for number in range(12)]
    for number, file in enumerate(files):
        cv2.imwrite(str(file), np.full((20 + number, 30, 3), 9, np.uint8))
    options = [] if concurrency is None else ["--concurrency", str(concurrency)]
    rows = answers(detect(*files, "--url", served.url, *options))
    assert [row["file"] for row in rows] == list(map(str, files))
    assert [row["image"]["height"] for row in rows] == list(range(20, 32))
    assert all(row["timings_ms"]["total"] >= 20 for row in rows)
    assert served.most == (concurrency or 4)


@pytest.mark.parametrize("place", ["option", "environment"])
def test_a_key_for_the_gateway(serve: Serve, folder: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve(FakeRuntime(), api_keys=("the-key",))
    refused = detect(folder, "--url", served.url)
    assert isinstance(refused.exception, AccessError)
    assert str(refused.exception).startswith("This gateway needs a key")
    if place == "environment":
        monkeypatch.setenv("RESNEST_API_KEY", "the-key")
    found = detect(folder, "--url", served.url, *(["--api-key", "the-key"] if place == "option" else []))
    assert len(answers(found)) == 3
    assert "the-key" not in detect("--help").output


def test_drawings_of_a_gateway(serve: Serve, folder: Path, tmp_path: Path) -> None:
    result = detect(folder, "--url", serve(FakeRuntime()).url, "--output", tmp_path / "drawings")
    assert (result.exit_code, result.output) == (0, f"1 file left out: {folder / 'notes.txt'}.\n")
    assert len(list((tmp_path / "drawings").iterdir())) == 3


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "timings_ms"} for row in rows]


@pytest.mark.usefixtures("repository")
def test_a_model_without_masks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card: ModelCard = FakeRuntime().card.model_copy(update={"mask_size": None})
    monkeypatch.setattr(FakeRuntime, "load", lambda *_, **__: FakeRuntime(card))
    (row,) = answers(detect(folder / "b.jpg"))
    assert ["mask" in found for found in row["detections"]] == [False] * 3


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RESNEST, *map(str, arguments)]
    environment = {key: value for key, value in os.environ.items() if key != "RESNEST_REPOSITORY"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def read_to_the_end(terminal: int) -> str:
    data = b""
    with os.fdopen(terminal, "rb", buffering=0) as stream, contextlib.suppress(OSError):  # its end is an error on Linux
        while chunk := stream.read(4096):
            data += chunk
    return data.decode()


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
def test_progress_is_shown_on_a_terminal(tmp_path: Path) -> None:
    leader, follower = os.openpty()
    command = [sys.executable, "-c", RESNEST, "detect", PHOTOGRAPHS / "000000000073.jpg", f"--output={tmp_path}"]
    with subprocess.Popen([*map(str, command)], cwd=ROOT, env={**os.environ, "TERM": "xterm"}, stderr=follower):
        os.close(follower)
        said = read_to_the_end(leader)
    assert "Detecting" in said
    assert f"What was found is in {tmp_path}." in said


def test_the_demo_finds_what_is_in_its_photographs() -> None:
    result = run("detect", PHOTOGRAPHS / "000000000073.jpg", "--model", "demo", "--score-threshold", "0.5")
    assert (result.returncode, result.stderr) == (0, "")
    (row,) = json.loads(result.stdout)
    assert {found["class"] for found in row["detections"]} == {"motorcycle"}


def test_an_error_is_a_sentence_and_exit_code_2() -> None:
    result = run("detect", "absent.jpg")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "resnest: There is no file or folder absent.jpg.\n"
