"""`resnest eval`, behind a fake runtime, gateway and Triton, and on the demo model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from typer.testing import CliRunner, Result

import resnest_client
from resnest_client import HttpDetector, commands
from resnest_core.detector import InProcessDetector
from resnest_core.errors import ImageError, ModelNotFoundError, ParameterError, RuntimeUnavailableError
from resnest_core.evaluation import FIGURES
from resnest_core.runtimes import FakeRuntime
from resnest_core.runtimes.fake import FAKE_CARD
from tests.client.fake_triton import UNAVAILABLE, FakeTriton, Refusal, Triton
from tests.client.gateway import Gateway
from tests.client.grpc_variants import PATIENCE, until
from tests.client.served import Serve
from tests.client.test_detect import read_to_the_end
from tests.server.test_serve import serving

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "tests" / "data" / "demo"
RESNEST = "from resnest_core.cli import main; main()"
COUNT = 12


def evaluate(*arguments: object) -> Result:
    app = typer.Typer()
    commands.register(app)
    return CliRunner().invoke(app, ["eval", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(COUNT):
        cv2.imwrite(str(folder / f"{number:02}.png"), np.full((100 + number, 150, 3), 9, np.uint8))
    return folder


@pytest.fixture
def instances(folder: Path) -> Path:
    """Of the three boxes that the fake runtime finds in each image, the first two, and a car where it finds none."""
    objects: list[dict[str, object]] = []
    for number in range(COUNT):
        height, width = 100 + number, 150
        for label, (low, high) in enumerate([(0.1, 0.9), (0.1005, 0.896), (0, 0.05)]):
            x, y, right, bottom = low * width, low * height, high * width, high * height
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "iscrowd": 0,
                    "bbox": [x, y, right - x, bottom - y],
                    "area": (right - x) * (bottom - y),
                    "segmentation": [[x, y, right, y, right, bottom, x, bottom]],
                }
            )
    path = folder.parent / "instances.json"
    content = {
        "images": [
            {"id": number, "file_name": f"{number:02}.png", "height": 100 + number, "width": 150}
            for number in range(COUNT)
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}, {"id": 3, "name": "car"}],
        "annotations": objects,
    }
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def data(instances: Path, folder: Path) -> list[object]:
    """The options that name both."""
    return ["--annotations", instances, "--images", folder]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "new" / "kept.jsonl"


@pytest.fixture
def figures(tmp_path: Path) -> Path:
    return tmp_path / "new" / "figures.json"


def read(figures: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(figures.read_text())
    return content


def images_of(kept: Path) -> list[int]:
    """Return the ids of the images that have a line."""
    assert kept.read_bytes().endswith(b"\n")
    return [json.loads(line)["image_id"] for line in kept.read_text().splitlines()[1:]]


def local(monkeypatch: pytest.MonkeyPatch, runtime: FakeRuntime) -> None:
    monkeypatch.setattr("resnest_client.detector_options._local", lambda *_: InProcessDetector(runtime))


def test_the_figures_and_what_they_are_of(
    data: list[object], figures: Path, monkeypatch: pytest.MonkeyPatch, instances: Path, folder: Path
) -> None:
    runtime = FakeRuntime()
    local(monkeypatch, runtime)
    result = evaluate(*data, "--output", figures)
    assert (result.exit_code, result.stderr) == (0, "")
    content = read(figures)
    assert tuple(content["bbox"]) == tuple(content["segm"]) == FIGURES
    assert content["bbox"]["AP"] == pytest.approx(2 / 3)
    assert content["bbox"]["APm"] is None
    assert 0 < content["segm"]["AP50"] <= content["bbox"]["AP50"]
    del content["bbox"], content["segm"]
    assert content == {
        "partial": False,
        "images": {"annotated": 12, "evaluated": 12, "missing": [], "unusable": {}, "not_annotated": 0},
        "classes": {"evaluated": 3, "only_in_model": [], "only_in_annotations": []},
        "objects_without_mask": 0,
        "model": {
            "name": "fake",
            "checkpoint": "none",
            "checkpoint_sha256": "0" * 64,
            "precision": "fp32",
            "project_version": "0",
        },
        "runtime": "fake",
        "device": "cpu",
        "score_threshold": 0.05,
        "max_detections": 100,
        "annotations": str(instances),
        "folder": str(folder),
    }
    assert len(runtime.calls) == COUNT
    assert all(call["score_thresholds"] == np.float32(0.05) for call in runtime.calls)
    lines = result.stdout.splitlines()
    assert lines[0] == "fake, fp32, runtime fake device cpu"
    assert lines[1] == f"12 of the 12 images that {instances} annotates"
    (row,) = (line.split() for line in lines if line.startswith("AP "))
    assert row[1] == "0.667"
    (row,) = (line.split() for line in lines if line.startswith("APm "))
    assert row[1] == "–"


def test_per_class(data: list[object], figures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = FAKE_CARD.model_copy(update={"mask_size": None})
    local(monkeypatch, FakeRuntime(card))
    result = evaluate(*data, "--per-class", "--output", figures)
    content = read(figures)
    assert "segm" not in content
    assert content["per_class"] == {
        "person": {"objects": 12, "bbox": pytest.approx(1)},
        "bicycle": {"objects": 12, "bbox": pytest.approx(1)},
        "car": {"objects": 12, "bbox": 0},
    }
    assert [line.split() for line in result.stdout.splitlines()[-3:]] == [
        ["person", "12", "1.000"],
        ["bicycle", "12", "1.000"],
        ["car", "12", "0.000"],
    ]


def test_annotations_without_masks(
    data: list[object], instances: Path, figures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads(instances.read_text())
    for one in content["annotations"]:
        one["segmentation"] = []
    instances.write_text(json.dumps(content))
    runtime = FakeRuntime()
    local(monkeypatch, runtime)
    result = evaluate(*data, "--output", figures)
    assert (result.exit_code, result.stderr) == (0, "The annotations have no masks: only boxes are evaluated.\n")
    assert "segm" not in read(figures)
    assert [call["want_masks"].any() for call in runtime.calls] == [False] * COUNT


@pytest.mark.parametrize("concurrency", [None, 1, 3])
def test_all_ways_give_the_same(
    concurrency: int | None,
    data: list[object],
    figures: Path,
    fake_triton: Triton,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    local(monkeypatch, FakeRuntime())
    evaluate(*data, "--output", figures)
    expected = read(figures)
    for server in (fake_triton(), serve(FakeRuntime())):
        options = [] if concurrency is None else ["--concurrency", concurrency]
        result = evaluate(*data, "--url", server.url, "--output", figures, *options)
        assert (result.exit_code, result.stderr) == (0, "")
        found = read(figures)
        assert found["url"] == server.url
        assert (found["bbox"], found["segm"]) == (
            pytest.approx(expected["bbox"], abs=1e-9),
            pytest.approx(expected["segm"], abs=1e-9),
        )
        if concurrency == 1:
            assert server.most == 1


def test_no_password_is_written(data: list[object], figures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resnest_client, "HttpDetector", partial(HttpDetector, transport=Gateway()))
    result = evaluate(*data, "--url", "http://user:secret@gateway:8000", "--output", figures)
    assert result.exit_code == 0, result.output
    assert read(figures)["url"] == "http://gateway:8000"
    assert "secret" not in figures.read_text() + result.output


# What is kept.


def test_results_are_coco_s(data: list[object], kept: Path, figures: Path, fake_triton: Triton) -> None:
    assert evaluate(*data, "--url", fake_triton().url, "--results", kept, "--output", figures).exit_code == 0
    assert images_of(kept) == list(range(COUNT))
    truth = COCO(str(data[1]))
    evaluation = COCOeval(truth, truth.loadRes(str(kept.with_suffix(".json"))), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    expected = [None if value == -1 else value for value in evaluation.stats]
    assert read(figures)["bbox"] == pytest.approx(dict(zip(FIGURES, expected, strict=True)), abs=1e-6)


def test_annotations_of_other_ids_and_classes(
    data: list[object], instances: Path, kept: Path, figures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classes are matched by name, in a second run with other annotations too, which does no image again."""
    runtime = FakeRuntime()
    local(monkeypatch, runtime)
    arguments = [*data, "--per-class", "--results", kept, "--output", figures]
    assert evaluate(*arguments).exit_code == 0
    first, lines = read(figures), kept.read_bytes()
    content = json.loads(instances.read_text())
    content["categories"] = [
        {"id": 2, "name": "person"},
        {"id": 1, "name": "Bicycle"},
        {"id": 0, "name": "car"},
        {"id": 3, "name": "dog"},
    ]
    for one in content["annotations"]:
        one["category_id"] = {1: 2, 2: 1, 3: 0}[one["category_id"]]
    instances.write_text(json.dumps(content))
    result = evaluate(*arguments)
    assert result.stderr.splitlines() == [
        "2 classes are evaluated, those that both have: the model lacks Bicycle, dog, and the annotations lack bicycle "
        "('Bicycle' and 'bicycle' look alike, but names are matched exactly).",
        "12 of 12 images are done already.",
    ]
    second = read(figures)
    assert len(runtime.calls) == COUNT
    assert kept.read_bytes() == lines
    assert second["classes"] == {
        "evaluated": 2,
        "only_in_model": ["bicycle"],
        "only_in_annotations": ["Bicycle", "dog"],
    }
    assert second["per_class"] == {name: first["per_class"][name] for name in ("person", "car")}
    assert second["bbox"]["AP"] == pytest.approx(0.5)
    rows = json.loads(kept.with_suffix(".json").read_text())
    assert {row["category_id"] for row in rows} <= {2, 0}  # the annotations' ids
    assert sum(row["category_id"] == 2 for row in rows) == COUNT


@pytest.mark.parametrize("kind", ["grpc", "http", "in process"])
def test_a_second_run_does_the_rest(
    kind: str,
    data: list[object],
    folder: Path,
    kept: Path,
    figures: Path,
    fake_triton: Triton,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runtime = FakeRuntime()
    local(monkeypatch, runtime)
    arguments: list[object] = [*data, "--results", kept, "--output", figures]
    if kind != "in process":
        arguments += ["--url", fake_triton(runtime).url if kind == "grpc" else serve(runtime).url]
    shutil.move(folder / "03.png", folder / "03.later")
    assert evaluate(*arguments).exit_code == 0
    assert images_of(kept) == [0, 1, 2, *range(4, 12)]
    assert read(figures)["partial"]
    shutil.move(folder / "03.later", folder / "03.png")
    runtime.calls.clear()
    for asked, done in ((1, 11), (0, 12)):
        result = evaluate(*arguments)
        assert (result.exit_code, result.stderr) == (0, f"{done} of 12 images are done already.\n")
        assert sum(len(call["images"]) for call in runtime.calls) == asked
        assert read(figures)["bbox"]["AP"] == pytest.approx(2 / 3)
        assert not read(figures)["partial"]
        runtime.calls.clear()
    assert len(json.loads(kept.with_suffix(".json").read_text())) == 3 * COUNT


@pytest.mark.parametrize("left", range(0, 60, 7))
@pytest.mark.parametrize("line", [0, 5])
def test_a_torn_line_is_done_again(
    left: int, line: int, data: list[object], kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local(monkeypatch, FakeRuntime())
    evaluate(*data, "--results", kept)
    lines = kept.read_bytes().splitlines(keepends=True)
    kept.write_bytes(b"".join(lines[:line]) + lines[line][:left])
    assert evaluate(*data, "--results", kept).exit_code == 0
    assert images_of(kept) == list(range(COUNT))
    assert kept.read_bytes().splitlines(keepends=True) == lines


def test_a_run_killed_in_the_middle(data: list[object], kept: Path, fake_triton: Triton) -> None:
    server = fake_triton(FakeRuntime(before_run=lambda _: time.sleep(0.1)))
    arguments = [*data, "--url", server.url, "--concurrency", 1, "--results", kept]
    with running(*arguments) as process:
        until(lambda: kept.exists() and kept.read_bytes().count(b"\n") >= 4)
        process.kill()
    done = len(images_of(kept))
    assert 3 <= done < COUNT
    result = evaluate(*arguments)
    assert (result.exit_code, result.stderr) == (0, f"{done} of 12 images are done already.\n")
    assert images_of(kept) == list(range(COUNT))


def running(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RESNEST, "eval", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_an_interrupted_run_keeps_what_is_done_and_does_not_wait(
    concurrency: int, data: list[object], kept: Path, fake_triton: Triton
) -> None:
    release = threading.Event()
    server = fake_triton(refuse=lambda number: release.wait(PATIENCE) and None if number > 3 else None)
    arguments = [*data, "--url", server.url, "--concurrency", concurrency, "--results", kept]
    with running(*arguments) as process:
        until(lambda: server.in_flight == concurrency and server.asked == 3 + concurrency)
        until(lambda: kept.read_bytes().count(b"\n") >= 3)
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        _, said = process.communicate(timeout=PATIENCE)
        assert time.monotonic() - start < PATIENCE / 2
    assert process.returncode == 130
    assert f" of 12 images are done. What was done is in {kept}: run the command again for the rest." in said
    release.set()
    assert len(images_of(kept)) in (2, 3)  # two at a time, the third image's answer may wait for the second's
    assert evaluate(*arguments).exit_code == 0


@pytest.mark.parametrize(
    "change", [{"name": "other"}, {"checkpoint_sha256": "1" * 64}, {"precision": "int8"}], ids=lambda change: [*change]
)
def test_detections_of_two_models_are_not_mixed(
    change: dict[str, str], data: list[object], kept: Path, fake_triton: Triton
) -> None:
    evaluate(*data, "--url", fake_triton().url, "--results", kept)
    before = kept.read_bytes()
    other = FakeTriton(FakeRuntime(FAKE_CARD.model_copy(update=change)))
    result = evaluate(*data, "--url", other.url, "--results", kept)
    other.stop()
    assert isinstance(result.exception, ParameterError)
    assert "has detections of another model, precision or runtime: name another --results." in str(result.exception)
    assert kept.read_bytes() == before


@pytest.mark.parametrize("content", [b"notes", b"notes\n", b'{"a": 1}\n', b'{"file": "a.jpg", "model": "fake"}\n'])
def test_a_file_of_something_else_is_left_alone(
    content: bytes, data: list[object], kept: Path, fake_triton: Triton
) -> None:
    kept.parent.mkdir()
    kept.write_bytes(content)
    result = evaluate(*data, "--url", fake_triton().url, "--results", kept)
    assert isinstance(result.exception, ParameterError)
    assert "is no file of this command's: name another --results." in str(result.exception)
    assert kept.read_bytes() == content


def test_a_line_of_something_else(data: list[object], kept: Path, fake_triton: Triton) -> None:
    url = fake_triton().url
    evaluate(*data, "--url", url, "--results", kept)
    with kept.open("a") as file:
        file.write('{"image_id": 3}\n')
    result = evaluate(*data, "--url", url, "--results", kept)
    assert isinstance(result.exception, ParameterError)
    assert "Line 14 of" in str(result.exception)


# Bad input.


@pytest.mark.parametrize("keep", [True, False])
def test_a_server_that_dies(
    keep: bool, data: list[object], kept: Path, figures: Path, fake_triton: Triton, slept: list[float]
) -> None:
    def away(number: int) -> Refusal | None:
        return UNAVAILABLE if number > 6 else None

    options: list[object] = ["--output", figures, *(["--results", kept] if keep else [])]
    result = evaluate(*data, "--url", fake_triton(refuse=away).url, "--concurrency", "1", *options)
    assert isinstance(result.exception, RuntimeUnavailableError)
    assert str(result.exception).startswith("6 of 12 images were evaluated: ")
    remedy = f"What was done is in {kept}: run the" if keep else "Nothing is kept for a second run: --results FILE"
    assert remedy in str(result.exception)
    content = read(figures)
    assert content["partial"]
    assert content["stopped"].endswith("try again later.")
    assert content["images"]["evaluated"] == 6
    assert content["bbox"]["AP"] == pytest.approx(2 / 3)
    assert "PARTIAL: 6 of the 12 images" in result.stdout
    assert len(slept) == 2
    if keep:
        server = fake_triton()
        assert evaluate(*data, "--url", server.url, *options).exit_code == 0
        assert server.asked == 6
        assert not read(figures)["partial"]
        assert "stopped" not in read(figures)


def test_a_gateway_that_goes_away_in_the_middle(
    data: list[object], kept: Path, figures: Path, serve: Serve, slept: list[float]
) -> None:
    served = serve(FakeRuntime(before_run=lambda _: time.sleep(0.2)))

    def stop() -> None:
        until(lambda: kept.exists() and kept.read_bytes().count(b"\n") > 3)
        served.stop()

    stopper = threading.Thread(target=stop)
    stopper.start()
    arguments = [*data, "--url", served.url, "--concurrency", 1, "--results", kept, "--output", figures]
    result = evaluate(*arguments)
    stopper.join()
    assert isinstance(result.exception, RuntimeUnavailableError)
    done = len(images_of(kept))
    assert str(result.exception).startswith(f"{done} of 12 images were evaluated: ")
    assert 3 <= done < COUNT
    assert read(figures)["images"]["evaluated"] == done
    assert slept


def test_a_server_that_is_not_there(data: list[object], kept: Path, figures: Path) -> None:
    for url in ("http://127.0.0.1:9", "grpc://127.0.0.1:9"):
        result = evaluate(*data, "--url", url, "--results", kept, "--output", figures)
        assert isinstance(result.exception, RuntimeUnavailableError)
    assert not kept.exists()
    assert not figures.exists()


def test_all_requests_failing(
    data: list[object], kept: Path, figures: Path, fake_triton: Triton, slept: list[float]
) -> None:
    result = evaluate(
        *data, "--url", fake_triton(refuse=lambda _: UNAVAILABLE).url, "--results", kept, "--output", figures
    )
    assert isinstance(result.exception, RuntimeUnavailableError)
    assert str(result.exception).startswith("No image was evaluated: ")
    assert result.stdout == ""
    assert not figures.exists()
    assert slept


def test_all_images_broken(data: list[object], folder: Path, figures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local(monkeypatch, FakeRuntime())
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[:50])
    result = evaluate(*data, "--output", figures)
    assert isinstance(result.exception, ImageError)
    assert str(result.exception).startswith("None of the 12 images could be used; of 00.png: The ")
    assert not figures.exists()


@pytest.mark.parametrize("kind", ["grpc", "http", "in process"])
def test_images_that_can_not_be_used(
    kind: str,
    data: list[object],
    folder: Path,
    kept: Path,
    figures: Path,
    fake_triton: Triton,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (folder / "05.png").write_bytes((folder / "05.png").read_bytes()[:50])
    shutil.copy(folder / "06.png", folder / "07.png")
    local(monkeypatch, FakeRuntime())
    urls: dict[str, Callable[[], str]] = {"grpc": lambda: fake_triton().url, "http": lambda: serve(FakeRuntime()).url}
    options = ["--url", urls[kind]()] if kind in urls else []
    result = evaluate(*data, "--output", figures, "--results", kept, *options)
    assert result.exit_code == 2
    broken, other, last = result.stderr.splitlines()
    assert broken.startswith(f"{folder / '05.png'}: The ")
    assert other == (
        f"{folder / '07.png'}: The image is 150×106 pixels, but 150×107 in the annotations: "
        "use the images that were annotated."
    )
    assert last == "10 of 12 images were evaluated, the others couldn't be used."
    content = read(figures)
    assert content["partial"]
    assert content["images"]["unusable"].keys() == {"05.png", "07.png"}
    assert content["images"]["evaluated"] == 10
    assert images_of(kept) == [0, 1, 2, 3, 4, 6, 8, 9, 10, 11]


def test_images_that_are_not_there_and_images_that_are_not_annotated(
    data: list[object], instances: Path, folder: Path, figures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local(monkeypatch, FakeRuntime())
    (folder / "00.png").rename(folder / "other.png")
    (folder / "notes.txt").write_text("no image")
    result = evaluate(*data, "--output", figures)
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        f"1 of the 12 annotated images are not in {folder}, and NOT evaluated: 00.png",
        f"Images in {folder} that {instances} doesn't name, left out: 1.",
    ]
    assert "PARTIAL: 11 of the 12 images" in result.stdout
    content = read(figures)
    assert content["partial"]
    assert content["images"] == {
        "annotated": 12,
        "evaluated": 11,
        "missing": ["00.png"],
        "unusable": {},
        "not_annotated": 1,
    }


def test_the_first_images_only(data: list[object], kept: Path, figures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = FakeRuntime()
    local(monkeypatch, runtime)
    arguments = [*data, "--output", figures, "--results", kept, "--limit"]
    for limit, calls in ((4, 4), (6, 6), (2, 6)):
        result = evaluate(*arguments, limit)
        assert f"PARTIAL: {limit} of the 12 images" in result.stdout
        assert read(figures)["images"]["evaluated"] == limit
        assert len(runtime.calls) == calls
    assert evaluate(*arguments, 0).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (["--annotations", "absent.json"], ParameterError, "The annotations absent.json can't be read (No such file"),
        (["--annotations", Path(__file__)], ParameterError, "is not JSON, or not all of it"),
        (["--annotations", DEMO / "keys.json"], ParameterError, "is no file of COCO's annotations of objects: images"),
        (["--annotations", DEMO / "instances.json"], ParameterError, "None of the 6 annotated images is in"),
        (["--images", "absent"], ParameterError, "There is no folder absent"),
        (["--images", ROOT / "tests" / "client"], ParameterError, "None of the 12 annotated images is in"),
        (["--output", "figures.txt"], ParameterError, "--output figures.txt must be a FILE.json."),
        (["--results", "kept.json"], ParameterError, "--results kept.json must be a FILE.jsonl"),
        (["--results", "a.jsonl", "--output", "a.json"], ParameterError, "a.json holds the detections themselves"),
        (["--results", ROOT / "README.md" / "a.jsonl"], ParameterError, "can't be written"),
        (["--concurrency", "2"], ParameterError, "--concurrency is for --url"),
        (["--url", "http://x", "--runtime", "openvino"], ParameterError, "--runtime can't be chosen with --url"),
        (["--url", "grpc://x", "--api-key", "a"], ParameterError, "Triton asks for none"),
    ],
)
def test_what_can_not_be_done(
    arguments: list[object],
    error: type[Exception],
    sentence: str,
    data: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    local(monkeypatch, FakeRuntime())
    result = evaluate(*data, *arguments)
    assert isinstance(result.exception, error), result.output
    assert sentence in str(result.exception)
    assert result.stdout == ""


def test_what_can_not_be_written(
    data: list[object], kept: Path, figures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local(monkeypatch, FakeRuntime())
    kept.with_suffix(".json").mkdir(parents=True)
    result = evaluate(*data, "--results", kept)
    assert isinstance(result.exception, ParameterError)
    assert "can't be written (Is a directory): name another --results." in str(result.exception)
    figures.mkdir()
    result = evaluate(*data, "--output", figures)
    assert isinstance(result.exception, ParameterError)
    assert str(result.exception) == f"--output {figures} is a folder: name a FILE.json."
    result = evaluate(*data, "--output", ROOT / "README.md" / "figures.json")
    assert "can't be made" in str(result.exception)
    assert result.stdout == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk(data: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local(monkeypatch, FakeRuntime())
    (tmp_path / "full.json").symlink_to("/dev/full")
    result = evaluate(*data, "--output", tmp_path / "full.json")
    assert "can't be written (No space left" in str(result.exception)
    assert "AP50" in result.stdout
    (tmp_path / "full.jsonl").symlink_to("/dev/full")
    result = evaluate(*data, "--results", tmp_path / "full.jsonl")
    assert isinstance(result.exception, ParameterError)
    assert "can't be written" in str(result.exception)


def test_a_model_that_is_not_there(data: list[object], kept: Path, fake_triton: Triton) -> None:
    result = evaluate(*data, "--url", fake_triton().url, "--model", "absent", "--results", kept)
    assert isinstance(result.exception, ModelNotFoundError)
    assert not kept.exists()


def test_an_error_is_a_sentence_and_exit_code_2() -> None:
    with running("--annotations", "absent.json", "--images", ".", "--model", "demo") as process:
        out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert said == "resnest: The annotations absent.json can't be read (No such file or directory).\n"


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
def test_progress_is_shown_on_a_terminal(data: list[object], fake_triton: Triton) -> None:
    leader, follower = os.openpty()
    server = fake_triton(FakeRuntime(before_run=lambda _: time.sleep(0.05)))
    command = [sys.executable, "-c", RESNEST, "eval", *map(str, data), "--url", server.url, "--concurrency", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower, env={**os.environ, "TERM": "xterm"}) as run:
        os.close(follower)
        said = read_to_the_end(leader)
    assert run.returncode == 0
    for part in ("Evaluating", "12/12", "images/s"):
        assert part in said


# The demo model, over its own photographs.


def test_the_gateway_gives_the_figures_of_the_process(tmp_path: Path) -> None:
    data = ["--annotations", DEMO / "instances.json", "--images", DEMO / "images", "--model", "demo"]
    answers = []
    with serving("--model", "demo") as (url, _):
        for options in ([], ["--url", url]):
            result = evaluate(*data, "--output", tmp_path / "figures.json", *options)
            assert (result.exit_code, result.stderr) == (0, "")
            answers.append(read(tmp_path / "figures.json"))
    ours, gateway = answers
    assert ours["bbox"]["AP"] == pytest.approx(0.661, abs=0.001)
    assert ours["segm"]["AP"] == pytest.approx(0.528, abs=0.001)
    for iou_type in ("bbox", "segm"):
        assert gateway[iou_type] == pytest.approx(ours[iou_type], abs=1e-6)
    assert ours["model"] == gateway["model"]
