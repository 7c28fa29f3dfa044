"""COCO's image ids of `resnest detect --format coco`, from names or from annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from resnest_client.image_ids import ids_by_name, ids_of_annotations
from resnest_core.errors import ParameterError
from resnest_core.runtimes import FakeRuntime
from tests.client.test_detect import answers, detect, repository  # noqa: F401 - a fixture


def paths(*names: str) -> list[Path]:
    return [Path(name) for name in names]


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["000000000042.png", "7.png"], [42, 7]),
        (["COCO_val2014_000000000042.jpg", "COCO_val2014_000000000073.jpg"], [42, 73]),
        (["frame-0010.jpg", "frame-0009.jpg"], [10, 9]),
        (["IMG_20240105_101112.HEIC"], [101112]),
        (["a/1.jpg", "b/2.jpg"], [1, 2]),
        (["x2.tar.5.png"], [5]),
        (["a.jpg", "b.jpg"], [0, 1]),
        (["a.jpg", "photo (1).jpg"], [0, 1]),
        (["٤٢.jpg", "b.jpg"], [0, 1]),
        ([], []),
    ],
)
def test_the_number_that_a_name_ends_in(names: list[str], ids: list[int]) -> None:
    assert ids_by_name(paths(*names)) == (ids, None)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["1.png", "a.png"], "1 of 2 file names end in no number (a.png)"),
        (["1.png", "001.jpg"], "1.png and 001.jpg end in the same number"),
        (["a/1.png", "b/1.png"], "a/1.png and b/1.png end in the same number"),
        (["a_1.png", "3.png", "b_1.png"], "a_1.png and b_1.png end in the same number"),
    ],
)
def test_names_that_are_no_ids_are_told(names: list[str], said: str) -> None:
    ids, warning = ids_by_name(paths(*names))
    assert ids == [*range(len(names))]
    assert warning == (
        f"image_id is an image's place in the list, 0 to {len(names) - 1}, not a number of its name: {said}. "
        "--annotations FILE takes the ids from COCO's annotations."
    )


def test_ids_of_annotations_by_the_end_of_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    annotations: dict[str, int | str] = {"a.jpg": 7, "train\\b.jpg": "text", "val/b.jpg": 9, "./c.jpg": 0}
    files = paths("images/a.jpg", "train/b.jpg", str(tmp_path / "val/b.jpg"), "c.jpg")
    assert ids_of_annotations(files, annotations, Path("f.json")).ids == [7, "text", 9, 0]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (["a.jpg", "d.jpg"], "1 of 2 images are not in f.json, such as d.jpg: leave them out"),
        (["b.jpg"], "1 of 1 images are not in f.json, such as b.jpg"),
        (["x/a.jpg", "y/a.jpg"], "x/a.jpg and y/a.jpg are the same image of f.json, 7: leave one of them out"),
    ],
)
def test_files_that_are_not_in_the_annotations(files: list[str], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        ids_of_annotations(paths(*files), {"a.jpg": 7, "train/b.jpg": 8}, Path("f.json"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("COCO_val2014_000000000042.jpg", "COCO_val2014_000000000073.jpg"):
        cv2.imwrite(str(folder / name), np.full((20, 40, 3), 9, np.uint8))
    return folder


def ids_of(rows: list[dict[str, Any]]) -> list[object]:
    return [row["image_id"] for row in rows[::3]]


def written(path: Path, images: list[dict[str, object]]) -> Path:
    path.write_text(json.dumps({"images": images}))
    return path


@pytest.mark.usefixtures("repository")
def test_detect_takes_the_names_numbers(folder: Path) -> None:
    result = detect(folder, "--format", "coco", "--model", "first")
    assert ids_of(answers(result)) == [42, 73]
    assert result.stderr == ""


@pytest.mark.usefixtures("repository")
def test_detect_tells_mixed_names_before_anything_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeRuntime, "run", lambda *_: pytest.fail("run"))
    (folder / "a.jpg").write_bytes(b"")
    result = detect(folder, "--format", "coco", "--model", "third")
    assert result.stderr.startswith(
        "image_id is an image's place in the list, 0 to 2, not a number of its name: 1 of 3"
    )
    assert "place in the list" not in detect(folder, "--model", "third").stderr


@pytest.mark.usefixtures("repository")
def test_detect_takes_the_ids_of_annotations(folder: Path, tmp_path: Path) -> None:
    images: list[dict[str, object]] = [
        {"id": "left", "file_name": "COCO_val2014_000000000042.jpg"},
        {"id": 5, "file_name": "images\\COCO_val2014_000000000073.jpg"},
        {"id": 6, "file_name": "another.jpg"},
    ]
    annotations = written(tmp_path / "f.json", images)
    options: list[str | Path] = ["--format", "coco", "--model", "first", "--annotations", annotations]
    assert ids_of(answers(detect(folder, *options))) == ["left", 5]
    (folder / "new.jpg").write_bytes((folder / "COCO_val2014_000000000042.jpg").read_bytes())
    result = detect(folder, *options)
    assert isinstance(result.exception, ParameterError)
    assert "1 of 3 images are not in" in str(result.exception)


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ([], "lists no images"),
        ([{"id": 1, "file_name": "a"}, {"id": "1", "file_name": "b"}], "has 2 images with the id 1"),
        ([{"id": 1, "file_name": "a"}, {"id": 2, "file_name": "a"}], "has 2 images with the file_name a"),
        ([{"id": 1}], "images.0.file_name: field required"),
    ],
)
def test_annotations_that_are_none(
    folder: Path, tmp_path: Path, images: list[dict[str, object]], sentence: str
) -> None:
    annotations = written(tmp_path / "f.json", images)
    result = detect(folder, "--format", "coco", "--annotations", annotations)
    assert isinstance(result.exception, ParameterError)
    assert sentence in str(result.exception)


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("options", [[], ["--format", "native"], ["--format", "coco", "--output", "drawn"]])
def test_annotations_that_would_do_nothing_are_refused(folder: Path, tmp_path: Path, options: list[str]) -> None:
    options = [str(tmp_path / option) if option == "drawn" else option for option in options]
    result = detect(folder, *options, "--annotations", written(tmp_path / "f.json", []))
    assert isinstance(result.exception, ParameterError)
    assert "which only --format coco has" in str(result.exception)


@pytest.mark.usefixtures("repository")
def test_results_of_nothing_are_an_empty_list(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    assert detect(folder, "--format", "coco", "--score-threshold", "0.99", "--output", output).exit_code == 0
    assert json.loads(output.read_text()) == []
