"""Equal scores in a runtime whose TopK orders them otherwise than ONNX: the answers are ONNX's all the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from resnest_core import tensors
from resnest_core.images import load_image
from resnest_core.preprocess import prepare, stack
from resnest_export.deployed_detector import DeployedDetector
from resnest_export.tensorrt.equal_scores import take_first_of_equals
from resnest_export.tensorrt.equal_scores_functions import FAR
from resnest_export.tensorrt.graph import fixed_size_network, runnable
from resnest_export.to_onnx import trace
from tests.export import goldens
from tests.export.tensorrt.conftest import detector
from tests.export.traces import Traces

PHOTOGRAPH = "000000000544"
STEPS = 16  # of a score between 0 and 1, so that many are equal


class TopK(OpRun):
    """A TopK that chooses and orders equal values at random."""

    op_domain = ""

    def _run(self, x: Any, k: Any, axis: int = -1, largest: int = 1, sorted: int = 1) -> Any:  # noqa: A002, ARG002
        order = np.lexsort((np.random.default_rng().random(x.shape), -x.astype(np.float64)), axis=-1)
        places = order[..., : int(k[0])]
        return np.take_along_axis(x, places, -1), places


def model_of(count: int) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("TopK", ["scores", "count"], ["values", "index"], axis=1),
            helper.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0),
        ],
        "choice",
        [value("scores", TensorProto.FLOAT, ["b", "n"])],
        [
            value("values", TensorProto.FLOAT, ["b", count]),
            value("index", TensorProto.INT64, ["b", count]),
            value("best", TensorProto.INT64, ["b"]),
        ],
        [numpy_helper.from_array(np.array([count]), "count")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def stable(scores: NDArray[np.float32], count: int) -> list[NDArray[Any]]:
    index = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return [np.take_along_axis(scores, index, 1), index, scores.argmax(1)]


@st.composite
def problems(draw: st.DrawFn) -> tuple[NDArray[np.float32], int]:
    columns = draw(st.integers(2, 40))
    values = st.sampled_from([0.25, 0.5, 0.75, 1.0, 1e-30, float("-inf")])
    rows = draw(st.lists(st.lists(values, min_size=columns, max_size=columns), min_size=1, max_size=3))
    return np.array(rows, np.float32), draw(st.integers(2, columns))


@settings(max_examples=60, deadline=None)
@given(problems())
def test_a_top_k_without_order_of_equals_gives_the_first(problem: tuple[NDArray[np.float32], int]) -> None:
    scores, count = problem
    model = model_of(count)
    take_first_of_equals(model)
    answer = ReferenceEvaluator(model, new_ops=[TopK]).run(None, {"scores": scores})
    for ours, expected in zip(answer, stable(scores, count), strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize(("columns", "count"), [(300_000, 1000), (80_000, 3840)])
def test_as_many_scores_as_a_detector_has(columns: int, count: int) -> None:
    assert columns < FAR and (count + 1) ** 2 < 1 << 24  # whole numbers of float32
    scores = np.random.default_rng(0).integers(0, 2000, (2, columns)).astype(np.float32) / np.float32(2000)
    model = model_of(count)
    take_first_of_equals(model)
    answer = onnxruntime.InferenceSession(reversed_top_k(model).SerializeToString()).run(None, {"scores": scores})
    for ours, expected in zip(answer, stable(scores, count), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_what_is_not_a_number_is_chosen_last() -> None:
    model = model_of(3)
    take_first_of_equals(model)
    scores = np.array([[np.nan, 0.5, np.nan, 0.5, 0.25]], np.float32)
    (index,) = ReferenceEvaluator(model, new_ops=[TopK]).run(["index"], {"scores": scores})
    np.testing.assert_array_equal(index, [[1, 3, 4]])


def reversed_top_k(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose TopK operators take and put the last of equal values first."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    for name, value in (("last", -1), ("start", -1), ("end", np.iinfo(np.int64).min)):
        graph.initializer.append(numpy_helper.from_array(np.array([value]), f"reversed_{name}"))
    nodes = []
    for node in graph.node:
        if node.op_type != "TopK":
            nodes.append(node)
            continue
        scores, (values, index) = node.input[0], node.output
        axes = ["reversed_start", "reversed_end", "reversed_last", "reversed_last"]
        nodes += [
            helper.make_node("Slice", [scores, *axes], [f"{index}_mirrored"]),
            helper.make_node("TopK", [f"{index}_mirrored", node.input[1]], [values, f"{index}_from_end"], axis=-1),
            helper.make_node("Shape", [scores], [f"{index}_length"], start=1, end=2),
            helper.make_node("Add", [f"{index}_length", "reversed_last"], [f"{index}_highest"]),
            helper.make_node("Sub", [f"{index}_highest", f"{index}_from_end"], [index]),
        ]
    del graph.node[:]
    graph.node.extend(nodes)
    return changed


def coarse(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which the scores that TopK reads are rounded to a few values."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    graph.initializer.append(numpy_helper.from_array(np.array(STEPS, np.float32), "steps"))
    nodes = []
    for node in graph.node:
        if node.op_type == "TopK":
            name = node.input[0]
            times, rounded, node.input[0] = f"{name}_times", f"{name}_rounded", f"{name}_coarse"
            nodes += [
                helper.make_node("Mul", [name, "steps"], [times]),
                helper.make_node("Round", [times], [rounded]),
                helper.make_node("Div", [rounded, "steps"], [node.input[0]]),
            ]
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return changed


def test_detections_do_not_depend_on_the_order_of_equal_scores(traces: Traces) -> None:
    card = goldens.card("demo")
    with traces.shared():
        traced = coarse(trace(DeployedDetector(fixed_size_network(detector("demo")), card), card))
    ordered = onnx.ModelProto()
    ordered.CopyFrom(traced)
    take_first_of_equals(ordered)
    long, short = card.test_scale
    small = card.model_copy(update={"test_scale": (long // 2, short // 2)})
    inputs = stack([prepare(load_image(goldens.photograph_path(PHOTOGRAPH)), small)]) | {
        tensors.SCORE_THRESHOLDS: np.full((1, 1), 0.05, np.float32),
        tensors.WANT_MASKS: np.array([[True]]),
    }

    def run(model: onnx.ModelProto) -> list[NDArray[Any]]:
        found: list[NDArray[Any]] = onnxruntime.InferenceSession(model.SerializeToString()).run(None, inputs)
        return found

    expected = run(runnable(traced))
    assert expected[0].min() >= 5
    for model in (runnable(ordered), reversed_top_k(runnable(ordered))):
        for ours, theirs in zip(run(model), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    unordered = run(reversed_top_k(runnable(traced)))
    assert not np.array_equal(unordered[1], expected[1])  # the photograph has equal scores that matter
