"""Batched NMS: by hand, against the reference, and the ONNX function body in both runtimes against both."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from resnest_core.runtimes import openvino_files
from resnest_export.onnx_domain import DOMAIN, VERSION
from resnest_export.ops.functions import function_bodies
from resnest_export.ops.nms import batched_nms, batched_nms_reference, iou

INF = float("inf")


def body(iou_threshold: float, max_output: int) -> onnx.ModelProto:
    """Return a model of the operator and its function body."""
    node = onnx.helper.make_node(
        "BatchedNMS",
        ["boxes", "scores", "groups"],
        ["indices", "num"],
        domain=DOMAIN,
        iou_threshold=iou_threshold,
        max_output=max_output,
    )
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "nms",
        [
            info("boxes", onnx.TensorProto.FLOAT, ["b", "m", 4]),
            info("scores", onnx.TensorProto.FLOAT, ["b", "m"]),
            info("groups", onnx.TensorProto.INT32, ["b", "m"]),
        ],
        [info("indices", onnx.TensorProto.INT32, ["b", "k"]), info("num", onnx.TensorProto.INT32, ["b", 1])],
    )
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid(DOMAIN, VERSION)]
    model = onnx.helper.make_model(graph, functions=function_bodies(), opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model)
    return model


def in_onnxruntime(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float, most: int) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(body(threshold, most).SerializeToString())
    feed = {"boxes": boxes.numpy(), "scores": scores.numpy(), "groups": groups.numpy()}
    indices, num = session.run(None, feed)
    return [np.asarray(indices), np.asarray(num)]


def in_openvino(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float, most: int) -> list[np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "nms.onnx"
        onnx.save(body(threshold, most), path)
        network = openvino_files.convert(path)
    compiled = openvino.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    result = compiled({"boxes": boxes.numpy(), "scores": scores.numpy(), "groups": groups.numpy()})
    return [np.array(result[0]), np.array(result[1])]


IMPLEMENTATIONS = {
    "pytorch": lambda b, s, g, t, k: [x.numpy() for x in batched_nms(b, s, g, iou_threshold=t, max_output=k)],
    "reference": lambda b, s, g, t, k: [
        x.numpy() for x in batched_nms_reference(b, s, g, iou_threshold=t, max_output=k)
    ],
    "function body in ONNX Runtime": in_onnxruntime,
    "function body in OpenVINO": in_openvino,
}
implementations = pytest.mark.parametrize("nms", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS.keys())


def test_iou_by_hand() -> None:
    a, b = torch.tensor([0.0, 0, 10, 10]), torch.tensor([5.0, 0, 15, 10])
    assert iou(a, b) == pytest.approx(50 / 150)
    assert iou(a, a) == 1
    assert iou(torch.zeros(4), torch.zeros(4)) == 0


@implementations
def test_by_hand(nms) -> None:  # type: ignore[no-untyped-def]
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 6], [20, 20, 30, 30], [0, 0, 10, 10]]])
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.95, 0.6]])
    groups = torch.zeros(1, 5, dtype=torch.int32)
    # IoU with the first: 0.5, which is at the threshold and stays; 0.6 and 1, which go.
    indices, num = nms(boxes, scores, groups, 0.5, 4)
    assert indices.tolist() == [[3, 0, 1, -1]]
    assert num.tolist() == [[3]]


@implementations
def test_groups_leave_each_other_alone(nms) -> None:  # type: ignore[no-untyped-def]
    boxes = torch.tensor([[[0.0, 0, 10, 10]] * 4])
    scores = torch.tensor([[0.6, 0.9, 0.7, 0.8]])
    indices, _ = nms(boxes, scores, torch.tensor([[0, 79, 0, 79]], dtype=torch.int32), 0.5, 3)
    assert indices.tolist() == [[1, 2, -1]]


@implementations
def test_images_are_apart_and_minus_infinity_is_no_box(nms) -> None:  # type: ignore[no-untyped-def]
    boxes = torch.tensor([[[0.0, 0, 10, 10], [50, 50, 60, 60]]] * 3)
    scores = torch.tensor([[0.5, -INF], [-INF, -INF], [0.1, 0.2]])
    indices, num = nms(boxes, scores, torch.zeros(3, 2, dtype=torch.int32), 0.5, 2)
    assert indices.tolist() == [[0, -1], [-1, -1], [1, 0]]
    assert num.tolist() == [[1], [0], [2]]


@implementations
def test_stops_at_the_maximum(nms) -> None:  # type: ignore[no-untyped-def]
    corner = torch.arange(10.0)[:, None] * 20
    boxes = torch.cat([corner, corner, corner + 10, corner + 10], dim=1)[None]
    indices, num = nms(boxes, torch.linspace(0.1, 1, 10)[None], torch.zeros(1, 10, dtype=torch.int32), 0.5, 4)
    assert indices.tolist() == [[9, 8, 7, 6]]
    assert num.tolist() == [[4]]


@implementations
def test_far_groups_are_decided_at_float32s_steps(nms) -> None:  # type: ignore[no-untyped-def]
    """As mmcv decides: group 79 of an image 1333 wide lies 79·1334 away, where float32 has steps of 1/128."""
    low, high = [0.0, 0, 8, 1.0045], [0.0, 0, 8, 2.0115]  # IoU 0.4994; at steps of 1/128 1.0078 ÷ 2.0078 = 0.502
    boxes = torch.tensor([[low, high, low, high, [1300.0, 0, 1333, 10]]])
    groups = torch.tensor([[0, 0, 79, 79, 1]], dtype=torch.int32)
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5]])
    assert nms(boxes, scores, groups, 0.5, 5)[0].tolist() == [[0, 1, 2, 4, -1]]
    # What is no box doesn't widen the image: 79 · 9 away the steps are fine.
    scores[0, 4] = -INF
    assert nms(boxes, scores, groups, 0.5, 5)[0].tolist() == [[0, 1, 2, 3, -1]]


@implementations
def test_groups_are_apart_left_of_zero_too(nms) -> None:  # type: ignore[no-untyped-def]
    boxes = torch.tensor([[[-30.0, -30, -10, -10], [-9, -9, 1, 1]]])
    groups = torch.tensor([[1, 0]], dtype=torch.int32)
    assert nms(boxes, torch.tensor([[0.9, 0.8]]), groups, 0.0, 2)[0].tolist() == [[0, 1]]


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, float, int]:
    """Boxes with whole-number corners, so that no implementation rounds; scores with ties and gaps."""
    batch, count = draw(st.integers(1, 3)), draw(st.integers(1, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    corners = rng.integers(0, 24, (batch, count, 2, 2))
    boxes = np.concatenate([corners.min(2), corners.max(2) + 1], axis=-1).astype(np.float32)
    scores = (rng.integers(0, count, (batch, count)) / count).astype(np.float32)
    scores[rng.random((batch, count)) < 0.2] = -np.inf
    groups = rng.integers(0, 4, (batch, count)).astype(np.int32)
    arrays = [torch.from_numpy(array) for array in (boxes, scores, groups)]
    return (arrays[0], arrays[1], arrays[2], draw(st.sampled_from([0.0, 0.3, 0.5, 0.7])), draw(st.integers(1, 30)))


@given(problems())
@settings(max_examples=60, deadline=None)
def test_all_agree(problem: tuple[Tensor, Tensor, Tensor, float, int]) -> None:
    expected = IMPLEMENTATIONS["reference"](*problem)
    for name, nms in IMPLEMENTATIONS.items():
        for ours, theirs in zip(nms(*problem), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=name)


def test_equal_scores_keep_the_first() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [40, 40, 50, 50]]])
    scores = torch.full((1, 3), 0.5)
    for nms in IMPLEMENTATIONS.values():
        assert nms(boxes, scores, torch.zeros(1, 3, dtype=torch.int32), 0.5, 3)[0].tolist() == [[0, 2, -1]]
