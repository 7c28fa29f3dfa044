"""Images in a folder by their names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from resnest_core.image_folder import SUFFIXES, folder_contents, image_files, left_out_sentence


def test_images_are_told_from_what_else_is_there(tmp_path: Path) -> None:
    images = ["a.JPG", "b.jpe", "c.jfif", "d.mpo", "e.HEIC", "f.heif", "g.avif", "h.tif", "i.dib", "j.apng", ".k.png"]
    others = ["._a.JPG", "notes.txt", "Thumbs.db", "jpg", "l.jpg.part", "m.svg"]
    for name in images + others:
        (tmp_path / name).touch()
    (tmp_path / "n.jpg").mkdir()
    (tmp_path / "o.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "p.jpg").symlink_to(tmp_path / "a.JPG")
    contents = folder_contents(tmp_path)
    assert [path.name for path in contents.images] == sorted([*images, "p.jpg"])
    assert [path.name for path in contents.left_out] == sorted([*others, "n.jpg", "o.jpg"])
    assert image_files(tmp_path) == contents.images


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert image_files(tmp_path) == []


def test_suffixes_are_in_small_letters() -> None:
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES)


@pytest.mark.parametrize(
    ("files", "folders", "sentence"),
    [
        (["a"], [], "1 file left out: a."),
        (["a", "b", "c"], [], "3 files left out: a, b, c."),
        ([], ["d"], "1 folder left out: d/."),
        (["a", "b"], ["c", "d"], "2 files and 2 folders left out: a, b, c/, d/."),
        ([f"{n:02}" for n in range(13)], [], "13 files left out: 00, 01, 02, 03, 04, 05, 06, 07, 08, 09 and 3 more."),
    ],
)
def test_what_is_left_out_is_said_with_its_number(
    files: list[str], folders: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in folders:
        Path(name).mkdir()
    assert left_out_sentence([Path(name) for name in (*files, *folders)]) == sentence
