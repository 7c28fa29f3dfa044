"""Text files as other systems write them."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnest_core.errors import ParameterError
from resnest_core.text_files import decode_text, numbered_lines, read_lines

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32"]
LINES = ["Schraube", "螺母", "hot dog", "a#b"]


def encode(text: str, encoding: str) -> bytes:
    marks = {"utf-16-be": codecs.BOM_UTF16_BE, "utf-32-be": codecs.BOM_UTF32_BE}
    return marks.get(encoding, b"") + text.encode(encoding)


@pytest.mark.parametrize("encoding", [*ENCODINGS, "utf-16-be", "utf-32-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_marks_ends_of_lines_and_spaces_do_not_matter(tmp_path: Path, encoding: str, end: str) -> None:
    file = tmp_path / "text"
    file.write_bytes(encode(end.join(["", " Schraube\t", "螺母 ", "  ", "hot dog", "a#b"]), encoding))
    assert read_lines(file) == LINES
    assert numbered_lines(file) == dict(zip((2, 3, 5, 6), LINES, strict=True))


def test_a_mark_in_the_middle_of_joined_files(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes("nut\n".encode("utf-8-sig") + "bolt\n".encode("utf-8-sig"))
    assert read_lines(file) == ["nut", "bolt"]


def test_characters_that_only_python_takes_for_ends_of_lines(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("a\u2028b\nc\x0bd\n", encoding="utf-8")
    assert read_lines(file) == ["a\u2028b", "c\x0bd"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"caf\xe9\n", "can't be read as text: save it as UTF-8."),
        (codecs.BOM_UTF16_LE + b"\0", "can't be read as text: save it as UTF-8."),
        ("nut\n".encode("utf-16-le"), "has NUL bytes, as UTF-16 without its byte-order mark and binary files have"),
        (b"nut\0", "has NUL bytes"),
        ("nu\0t".encode("utf-16"), "has NUL bytes"),
    ],
)
def test_what_is_no_text_is_refused_by_what_it_is(tmp_path: Path, content: bytes, sentence: str) -> None:
    file = tmp_path / "text"
    file.write_bytes(content)
    with pytest.raises(ParameterError, match=f"^{file} {sentence}"):
        read_lines(file)


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"can't be read \(No such file or directory\): name a file of text"):
        read_lines(tmp_path / "absent")
    with pytest.raises(ParameterError, match="Is a directory"):
        read_lines(tmp_path)


@given(st.binary(max_size=40))
def test_any_bytes_are_text_or_refused(content: bytes) -> None:
    try:
        assert "\0" not in decode_text(content, "it")
    except ParameterError as error:
        assert str(error).startswith("it ")


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), st.sampled_from(ENCODINGS))
def test_any_text_is_read_back(text: str, encoding: str) -> None:
    expected = text if encoding != "utf-8" else text.removeprefix("\ufeff")
    assert decode_text(text.encode(encoding), "it") == expected
