"""Operators of OpenVINO that choose among equal scores, converted from ONNX, against numpy and ONNX Runtime."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from onnx import TensorProto, helper

from resnest_core.runtimes import openvino_files

Scores = NDArray[np.float32]
FEW = st.sampled_from([-np.inf, -1.0, 0.0, 0.25, 0.5, 1.0])


def topk_graph(count: int) -> onnx.ModelProto:
    node = helper.make_node("TopK", ["scores", "count"], ["values", "index"])
    return as_model(node, {"scores": ["B", "N"]}, {"values": TensorProto.FLOAT, "index": TensorProto.INT64}, [count])


def as_model(
    node: onnx.NodeProto, inputs: dict[str, list[Any]], outputs: dict[str, int], count: list[int]
) -> onnx.ModelProto:
    """Return a model of one node; `count` is the value of its input of that name."""
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
        [helper.make_tensor("count", TensorProto.INT64, [len(count)], count)],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])


def in_openvino(model: onnx.ModelProto) -> openvino.CompiledModel:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        network = openvino_files.convert(path)
    return openvino.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


@functools.cache
def compiled_topk(count: int) -> openvino.CompiledModel:
    return in_openvino(topk_graph(count))


def assert_first_of_equals(scores: Scores, count: int) -> None:
    """Compare a TopK's answer with numpy's stable sort."""
    result = compiled_topk(count)(scores)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(result["index"], expected)
    np.testing.assert_array_equal(result["values"], np.take_along_axis(scores, expected, 1))


@settings(max_examples=200, deadline=None)
@given(data=st.data(), count=st.sampled_from([1, 3, 16]), rows=st.integers(1, 3), more=st.integers(0, 60))
def test_topk_takes_the_first_of_equal_scores(data: st.DataObject, count: int, rows: int, more: int) -> None:
    elements = data.draw(st.sampled_from([FEW, st.floats(width=32, allow_nan=False)]))
    scores = data.draw(arrays(np.float32, (rows, count + more), elements=elements))
    assert_first_of_equals(scores, count)


@pytest.mark.parametrize("length", [1000, 1300, 60_000, 201_600])
@pytest.mark.parametrize("values", [1, 2, 50, 3000])
def test_topk_of_a_pyramid_level(length: int, values: int) -> None:
    """A thousand of as many anchors as a level has, scored with as many different values, or padded."""
    generator = np.random.default_rng(length + values)
    scores = (generator.integers(0, values, (2, length)) / values).astype(np.float32)
    scores[1, 300:] = -np.inf
    assert_first_of_equals(scores, 1000)


def test_topk_of_more_than_float32_can_tell_apart() -> None:
    """Products of a run and a place above 2²⁴ are not rounded to float32."""
    scores = np.random.default_rng(0).integers(0, 5990, (1, 6000)).astype(np.float32)
    assert_first_of_equals(scores, 6000)


@pytest.mark.parametrize("share", [0.01, 0.9, 1.0])
def test_topk_of_scores_that_are_no_number_gives_different_positions(share: float) -> None:
    generator = np.random.default_rng(0)
    scores = generator.random((2, 5000), np.float32)
    scores[generator.random(scores.shape) < share] = np.nan
    for row in compiled_topk(1000)(scores)["index"]:
        assert len(set(row)) == 1000
        assert 0 <= row.min() <= row.max() < 5000


@settings(max_examples=50, deadline=None)
@given(scores=arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 40)), elements=FEW))
def test_argmax_takes_the_first_of_equal_scores(scores: Scores) -> None:
    """Soft-NMS chooses by it."""
    np.testing.assert_array_equal(compiled_argmax()(scores)["index"], scores.argmax(1, keepdims=True))


@functools.cache
def compiled_argmax() -> openvino.CompiledModel:
    node = helper.make_node("ArgMax", ["scores"], ["index"], axis=1)
    return in_openvino(as_model(node, {"scores": ["B", "N"]}, {"index": TensorProto.INT64}, [0]))


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.7, 1.0])
@pytest.mark.parametrize(("images", "count", "most"), [(3, 1000, 1000), (1, 8000, 100)])
def test_nms_keeps_what_onnx_runtime_keeps(images: int, count: int, most: int, threshold: float) -> None:
    """Boxes with corners at whole pixels: many overlap by exactly the threshold, and thousands score the same."""
    node = helper.make_node("NonMaxSuppression", ["boxes", "scores", "count", "threshold"], ["kept"])
    inputs: dict[str, list[Any]] = {"boxes": ["B", "N", 4], "scores": ["B", 1, "N"]}
    model = as_model(node, inputs, {"kept": TensorProto.INT64}, [most])
    model.graph.initializer.append(helper.make_tensor("threshold", TensorProto.FLOAT, [1], [threshold]))
    compiled = in_openvino(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    for values in (1, 4):
        corner = generator.integers(0, 100, (images, count, 2))
        boxes = np.concatenate([corner, corner + generator.integers(5, 40, corner.shape)], 2).astype(np.float32)
        scores = generator.integers(0, values, (images, 1, count)).astype(np.float32)
        expected = session.run(None, {"boxes": boxes, "scores": scores})[0]
        kept = compiled({"boxes": boxes, "scores": scores})["kept"]
        np.testing.assert_array_equal(kept[kept[:, 0] >= 0], expected)  # the rest is filled with -1
