"""Outputs of images of the same name, beside each other or in several folders."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnest_client.drawing_paths import drawing_paths
from resnest_core.errors import ParameterError
from resnest_core.images import load_image
from tests.client.test_detect import answers, detect, repository  # noqa: F401 - a fixture

OUT = Path("out")


def drawn(*names: str) -> list[str]:
    return [path.relative_to(OUT).as_posix() for path in drawing_paths([Path(name) for name in names], OUT).values()]


@pytest.mark.parametrize(
    ("names", "paths"),
    [
        (["in/a.jpg", "in/b.PNG", "in/c.jpeg", "in/d.jfif"], ["a.jpg", "b.PNG", "c.jpeg", "d.jfif"]),
        (["in/a.webp"], ["a.webp.jpg"]),
        (["in/a.jpg", "in/a.webp", "in/a.png", "in/a.heic"], ["a.jpg", "a.png", "a.webp.jpg", "a.heic.jpg"]),
        (["in/a.webp", "in/a.webp.jpg"], ["a.webp.jpg", "a.webp.jpg.jpg"]),
        (["in/a.jpg", "in/A.JPG"], ["a.jpg", "A.JPG.jpg"]),
        (["in/cats/1.jpg", "in/dogs/2.jpg"], ["1.jpg", "2.jpg"]),
        (["in/cats/1.jpg", "in/dogs/1.jpg"], ["cats/1.jpg", "dogs/1.jpg"]),
        (["in/1.jpg", "in/dogs/1.jpg", "in/dogs/2.webp"], ["1.jpg", "dogs/1.jpg", "dogs/2.webp.jpg"]),
        (["x/train/1.jpg", "y/train/1.jpg"], ["x/train/1.jpg", "y/train/1.jpg"]),
        (["in/a.jpg", "in/a.jpg", "in/../in/a.jpg"], ["a.jpg", "a.jpg.jpg"]),
    ],
)
def test_names_of_drawings(names: list[str], paths: list[str]) -> None:
    assert drawn(*names) == paths


def test_a_drawing_never_replaces_an_image(tmp_path: Path) -> None:
    for name in ("cats/1.jpg", "dogs/1.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    files = [tmp_path / "cats/1.jpg", tmp_path / "dogs/1.jpg"]
    with pytest.raises(ParameterError, match=r"The drawing .*cats/1\.jpg would replace an image"):
        drawing_paths(files, tmp_path)
    with pytest.raises(ParameterError, match="holds the images themselves"):
        drawing_paths(files, tmp_path / "cats")


FOLDERS = st.sampled_from(["", "a/", "b/"])
NAMES = st.sampled_from([f"{stem}.{end}" for stem in "aAb" for end in ("jpg", "JPG", "png", "webp", "webp.jpg")])


@settings(max_examples=100)
@given(st.lists(st.builds(str.__add__, FOLDERS, NAMES), min_size=1, max_size=12, unique=True))
def test_no_two_images_have_the_same_drawing(names: list[str]) -> None:
    files = [Path("in") / name for name in names]
    paths = drawing_paths(files, OUT)
    assert paths.keys() == set(files)
    assert len({str(path).casefold() for path in paths.values()}) == len(set(files))
    for file, path in paths.items():
        assert path.name.startswith(file.name) and OUT in path.parents
        assert path.suffix.lower() in (".png", ".jpg") and (path.suffix != ".png" or file.suffix == ".png")


def image(path: Path, side: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((side, 2 * side, 3), side, np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for side, name in enumerate(["cats/a.jpg", "cats/a.webp", "dogs/a.jpg", "dogs/b.png"], 20):
        image(tmp_path / "in" / name, side)
    (tmp_path / "in/cats/._a.jpg").write_bytes(b"\0\5\x16\7")
    (tmp_path / "in/cats/c.jpg").mkdir()
    (tmp_path / "in/dogs/notes.txt").touch()
    return tmp_path / "in"


@pytest.mark.usefixtures("repository")
def test_every_image_has_its_drawing(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "drawn"
    for _ in range(2):  # a second run draws to the same files
        result = detect(folder / "cats", folder / "dogs", "--model", "first", "--output", output)
        assert result.exit_code == 0
        files = {path.relative_to(output).as_posix(): path for path in output.rglob("*.*")}
        heights = {name: load_image(path).shape[0] for name, path in files.items()}
        assert heights == {"cats/a.jpg": 20, "cats/a.webp.jpg": 21, "dogs/a.jpg": 22, "dogs/b.png": 23}


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("output", [None, "answers.json", "answers.jsonl", "drawn"])
def test_what_is_left_out_of_folders_is_said_once(folder: Path, tmp_path: Path, output: str | None) -> None:
    options: list[str | Path] = [] if output is None else ["--output", tmp_path / output]
    result = detect(folder / "cats", folder / "dogs", "--model", "first", *options)
    left_out = f"{folder}/cats/._a.jpg, {folder}/cats/c.jpg/, {folder}/dogs/notes.txt"
    assert result.stderr == f"2 files and 1 folder left out: {left_out}.\n"


@pytest.mark.usefixtures("repository")
def test_answers_and_resumed_answers_of_images_of_one_name(folder: Path, tmp_path: Path) -> None:
    files = [folder / "cats/a.jpg", folder / "cats/a.webp", folder / "dogs/a.jpg"]
    assert [row["image"]["height"] for row in answers(detect(*files, "--model", "first"))] == [20, 21, 22]
    output = tmp_path / "answers.jsonl"
    for count in range(1, 4):
        assert detect(*files[:count], "--model", "first", "--output", output).exit_code == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(row["file"], row["image"]["height"]) for row in rows] == [
        (str(file), side) for file, side in zip(files, (20, 21, 22), strict=True)
    ]


@pytest.mark.usefixtures("repository")
def test_the_same_name_in_another_folder_is_not_done(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "answers.jsonl"
    monkeypatch.chdir(folder / "cats")
    assert detect("a.jpg", "--model", "first", "--output", output).exit_code == 0
    before = output.read_bytes()
    monkeypatch.chdir(folder / "dogs")
    result = detect("a.jpg", "--model", "first", "--output", output)
    assert isinstance(result.exception, ParameterError)
    assert f"has an answer for {folder}/cats/a.jpg, which is another file than this a.jpg" in str(result.exception)
    assert output.read_bytes() == before
    # The same folder elsewhere, as after a move, goes on.
    folder.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved/cats")
    result = detect("a.jpg", "a.webp", "--model", "first", "--output", output)
    assert (result.exit_code, "1 of 2 images are done already." in result.stderr) == (0, True)
    assert len(output.read_text().splitlines()) == 2
