"""Names and category ids of classes from files, options, configurations and checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnest_core.errors import CheckpointError, ParameterError
from resnest_core.text_files import read_lines
from resnest_export.checkpoint import Checkpoint
from resnest_export.class_files import category_ids, class_names
from resnest_export.coco_classes import COCO


def holding(classes: tuple[str, ...] | None) -> Checkpoint:
    return Checkpoint({}, classes, "0" * 64)


def test_names_come_from_the_file_else_the_configuration_else_the_checkpoint_else_coco(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("nut\n\n bolt \r\n", encoding="utf-8")
    assert class_names(2, file, holding(("cat", "dog")), ("cow", "hen")) == ("nut", "bolt")
    assert class_names(2, None, holding(("cat", "dog")), ("cow", "hen")) == ("cow", "hen")
    assert class_names(2, None, holding(("cat", "dog"))) == ("cat", "dog")
    names = class_names(80, None, holding(None))
    assert (names[0], names[-1], len(set(names))) == ("person", "toothbrush", 80)


def test_a_wrong_number_of_names(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("nut\nbolt\n")
    with pytest.raises(CheckpointError, match=r"has 3 classes, but .*classes\.txt names 2"):
        class_names(3, file, holding(None))
    with pytest.raises(CheckpointError, match=r"has 3 classes, but the checkpoint's meta names 2"):
        class_names(3, None, holding(("cat", "dog")))
    with pytest.raises(CheckpointError, match=r"has 3 classes, but COCO names 80: pass --classes"):
        class_names(3, None, holding(None))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_marks_and_ends_of_lines_do_not_matter(tmp_path: Path, encoding: str, end: str) -> None:
    file = tmp_path / "classes.txt"
    file.write_bytes(end.join(["", "Schraube ", "  螺母", " ", "hot dog", ""]).encode(encoding))
    assert class_names(3, file, holding(None)) == ("Schraube", "螺母", "hot dog")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "can't be read \\(No such file"),
        (b"\xff\xfe\x00", "can't be read as text"),
        (b"caf\xe9\nbolt\n", "can't be read as text: save it as UTF-8"),
        ("nut\nbolt\n".encode("utf-16-le"), "has NUL bytes, as UTF-16 without its byte-order mark"),
        (b"nut\nbo\0lt\n", "has NUL bytes"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    file = tmp_path / "classes.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CheckpointError, match=sentence):
        class_names(2, file, holding(None))
    with pytest.raises(ParameterError, match=sentence):
        category_ids(str(file), ("nut", "bolt"))


def test_duplicates_are_named(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("nut\nbolt\nnut \npin\nbolt\n")
    with pytest.raises(CheckpointError, match=r"classes\.txt names 'nut', 'bolt' more than once"):
        class_names(5, file, holding(None))
    with pytest.raises(CheckpointError, match="the checkpoint's meta names 'cat' more than once"):
        class_names(2, None, holding(("cat", "cat")))
    with pytest.raises(CheckpointError, match="the configuration names 'cat' more than once"):
        class_names(2, None, holding(None), ("cat", "cat"))
    with pytest.raises(CheckpointError, match="the configuration has a class without a name"):
        class_names(2, None, holding(None), ("cat", " "))
    assert class_names(2, None, holding(None), ("cat", "Cat")) == ("cat", "Cat")


def test_category_ids_by_default() -> None:
    ids = category_ids(None, tuple(COCO))
    assert (ids[0], ids[11], ids[-1]) == (1, 13, 90)
    assert list(ids) == sorted(set(ids))
    # COCO left these out of its 2017 annotations.
    assert set(range(1, 91)) - set(ids) == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert category_ids(None, ("nut", "bolt")) == (1, 2)


@given(st.lists(st.integers(0, 10**9), unique=True, min_size=1, max_size=9))
def test_category_ids_given(tmp_path_factory: pytest.TempPathFactory, ids: list[int]) -> None:
    classes = [f"class {number}" for number in range(len(ids))]
    assert category_ids(",".join(map(str, ids)), classes) == tuple(ids)
    assert category_ids(", ".join(map(str, ids)), classes) == tuple(ids)
    file = tmp_path_factory.mktemp("ids") / "ids.txt"
    for separator in ("\r\n", ",", ",\n"):
        file.write_text(separator.join(map(str, ids)) + "\n", encoding="utf-8-sig")
        assert category_ids(str(file), classes) == tuple(ids)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("1", "--category-ids has 1 category ids for 2 classes"),
        ("1,2,3", "has 3 category ids for 2 classes"),
        ("1,1", "has '1' more than once"),
        ("1,01", "has '1' more than once"),
        ("1,-2", "has '-2', but category ids are integers from 0 on"),
        ("1,", "has '', but category ids"),
        ("+1,2", "has '\\+1', but"),
        ("1,99999999999999999999", "has '99999999999999999999', but"),
        ("absent.txt", "absent.txt can't be read"),
        ("1.5,2", "1.5,2 can't be read"),
    ],
)
def test_category_ids_that_are_none(given: str, sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        category_ids(given, ("nut", "bolt"))


def test_a_file_of_category_ids_that_are_none(tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    for content in ("1\nnut\n", "1\n2.0\n", "1\n٢\n"):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(ParameterError, match=r"ids\.txt has '.*', but category ids are integers"):
            category_ids(str(file), ("nut", "bolt"))


def test_names_keep_characters_that_only_python_takes_for_ends_of_lines(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("a\u2028b\nc\x0bd\n", encoding="utf-8")
    assert read_lines(file) == ["a\u2028b", "c\x0bd"]
