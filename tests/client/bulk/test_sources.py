"""Which images the sources name: folders, patterns, and Parquet files with images or their addresses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from resnest_client.bulk.output_folder import in_parts
from resnest_client.bulk.sources import Piece, find_inputs, pieces_of
from resnest_client.bulk.tables import TableRow, choose_columns, open_table, table_rows
from resnest_core.errors import ParameterError

TEXTS, BYTES = pa.string(), pa.binary()
STRUCT = pa.struct({"bytes": BYTES, "path": TEXTS})


def pieces(*sources: str, known: set[tuple[str, int | None]] | None = None) -> list[Piece]:
    return list(pieces_of(find_inputs(sources), known or set(), 4, None, None))


def names(found: list[Piece]) -> list[str]:
    return [piece.name for piece in found]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two images, one of them deeper, and a text."""
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.jpg", "in/deep/b.PNG", "in/notes.txt", "other/a.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


def test_names_are_as_the_source_gives_them(folder: Path) -> None:
    assert names(pieces("in")) == ["in/a.jpg", "in/deep/b.PNG"]
    assert names(pieces(str(folder / "in"))) == [str(folder / "in/a.jpg"), str(folder / "in/deep/b.PNG")]
    assert names(pieces("in/*.jpg")) == ["in/a.jpg"]
    assert names(pieces("*/a.jpg")) == ["in/a.jpg", "other/a.jpg"]  # equal names stay apart
    assert names(pieces("in", "in/a.jpg", "other")) == ["in/a.jpg", "in/deep/b.PNG", "other/a.jpg"]  # each once
    assert find_inputs(["in"]).left_out == 1


def test_a_name_with_a_patterns_letters_is_a_name_if_it_is_there(folder: Path) -> None:
    (folder / "[1].jpg").write_bytes(b"")
    assert names(pieces("[1].jpg")) == ["[1].jpg"]


def test_what_is_known_is_left_out(folder: Path) -> None:
    assert names(pieces("in", known={(str(folder / "in/a.jpg"), None)})) == ["in/deep/b.PNG"]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("away", "no file or folder away"),
        ("away/*.jpg", "matches away"),
        ("in/*.txt", "matches in/"),
        ("e", "holds no"),
    ],
)
def test_sources_without_images(source: str, sentence: str, folder: Path) -> None:
    (folder / "e").mkdir()
    with pytest.raises(ParameterError, match=sentence):
        pieces(source)


def test_row_groups_become_pieces_of_which_none_is_too_large(folder: Path) -> None:
    table = pa.table({"file_name": [f"{n}.jpg" for n in range(15)]})
    parquet.write_table(table, folder / "t.parquet", row_group_size=6)
    found = pieces("t.parquet")
    assert [(piece.row_group, piece.start, piece.rows) for piece in found] == [
        *((0, 0, 4), (0, 4, 2), (1, 0, 4), (1, 4, 2)),
        (2, 0, 3),
    ]
    rows: list[TableRow] = []
    with open_table("t.parquet") as file:
        columns = choose_columns(file.schema_arrow, "t.parquet", None, None)
        for piece in found:
            rows += table_rows(file, columns, piece.row_group or 0, piece.start, piece.rows, str(folder / "t.parquet"))
    assert [row.row for row in rows] == list(range(15))
    assert [row.image for row in rows] == [str(folder / f"{n}.jpg") for n in range(15)]  # beside the Parquet file


@pytest.mark.parametrize(
    ("fields", "given", "chosen"),
    [
        ({"x": BYTES}, (None, None), ("x", None, False)),
        ({"image": STRUCT, "label": pa.int64()}, (None, None), ("image", None, False)),
        ({"image": BYTES, "thumbnail": BYTES, "id": pa.int64()}, (None, None), ("image", "id", False)),
        ({"uri": TEXTS, "caption": TEXTS}, (None, None), ("uri", None, True)),
        ({"picture": TEXTS}, (None, None), ("picture", None, True)),
        ({"a": BYTES, "b": BYTES, "c": TEXTS}, ("b", "c"), ("b", "c", False)),
    ],
)
def test_columns(fields: dict[str, Any], given: tuple[str, str], chosen: tuple[str, str, bool]) -> None:
    columns = choose_columns(pa.schema(fields), "t", *given)
    assert (columns.image, columns.name, columns.is_address) == chosen


@pytest.mark.parametrize(
    ("fields", "given", "sentence"),
    [
        ({"n": pa.int64()}, (None, None), r"--image-column"),
        ({"a": BYTES, "b": BYTES}, (None, None), r"a \(binary\), b \(binary\)"),
        ({"a": BYTES}, ("c", None), "has no column c"),
        ({"a": BYTES, "n": pa.float64()}, ("n", None), "holds double, which is neither images nor addresses"),
        ({"a": BYTES, "n": pa.float64()}, ("a", "n"), "holds double, not names"),
    ],
)
def test_columns_that_hold_no_images(fields: dict[str, Any], given: tuple[str, str], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        choose_columns(pa.schema(fields), "t", *given)


@given(st.lists(st.integers(1, 9), max_size=30), st.integers(1, 12), st.integers(0, 5))
def test_parts_hold_every_piece_once_and_in_order(rows: list[int], size: int, first: int) -> None:
    given = [Piece(str(n), str(n), 0, 0, count) for n, count in enumerate(rows)]
    parts = list(in_parts(given, size, first))
    assert [piece for part in parts for piece in part.pieces] == given
    assert [part.number for part in parts] == list(range(first, first + len(parts)))
    assert all(part.rows <= size or len(part.pieces) == 1 for part in parts)
