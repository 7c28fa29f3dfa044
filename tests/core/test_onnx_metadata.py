"""An ONNX file's metadata, read from the bytes as onnx itself reads it; damage is one sentence."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from resnest_core.errors import InvalidModelError
from resnest_core.onnx_metadata import read_metadata
from tests.core.networks import DEMO, write_network


def write_model(path: Path, metadata: dict[str, str], weights: int = 0) -> Path:
    """Write a network with this metadata, a function, and as many bytes of weights."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    raw = helper.make_tensor("w", TensorProto.UINT8, [weights], bytes(weights), raw=True)
    graph = helper.make_graph([helper.make_node("Twice", ["x"], ["y"], domain="d")], "g", [x], [y], [raw])
    body = helper.make_node("Add", ["a", "a"], ["b"])
    function = helper.make_function("d", "Twice", ["a"], ["b"], [body], [helper.make_opsetid("", 18)])
    model = helper.make_model(graph, functions=[function], doc_string="words", model_version=7)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(min_size=1), st.text(max_size=300), max_size=5), st.integers(0, 5000))
def test_it_is_what_onnx_reads(tmp_path: Path, metadata: dict[str, str], weights: int) -> None:
    assert read_metadata(write_model(tmp_path / "model.onnx", metadata, weights)) == metadata


def test_of_the_committed_model() -> None:
    assert read_metadata(DEMO) == {entry.key: entry.value for entry in onnx.load(DEMO).metadata_props}
    assert read_metadata(DEMO)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_file_cut_short_is_never_read_as_another(tmp_path: Path, data: st.DataObject) -> None:
    whole = write_model(tmp_path / "model.onnx", {"card": "words"}, 100)
    content = whole.read_bytes()
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    try:
        assert read_metadata(cut) in ({}, {"card": "words"})  # cut between two fields
    except InvalidModelError as error:
        assert str(error) == f"{cut} is damaged or not an ONNX model: export it again."


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"# an export", b"\0", b"PK\x03\x04 a checkpoint"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(InvalidModelError, match="damaged or not an ONNX model"):
        read_metadata(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidModelError, match=r"absent\.onnx is damaged or not an ONNX model"):
        read_metadata(tmp_path / "absent.onnx")


def test_weights_are_not_read(tmp_path: Path) -> None:
    """A sparse file of 4 GiB takes no time: its weights are skipped."""
    path = write_network(tmp_path / "small.onnx")
    small = path.read_bytes()
    model = onnx.load(path)
    helper.set_model_props(model, {"card": "behind the weights"})
    tail = model.SerializeToString()[len(small) :]
    size = 2**32
    length = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14 & 0x7F | 0x80, size >> 21 & 0x7F | 0x80])
    huge = tmp_path / "huge.onnx"
    with huge.open("wb") as file:
        file.write(b"\x3a" + length + bytes([size >> 28]))  # field 7, the graph
        file.seek(size, 1)
        file.write(tail)
    assert read_metadata(huge) == {"card": "behind the weights"}
