"""Multi-level RoIAlign: by hand, against the reference, and the ONNX function body against both."""

import math
from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from resnest_export.onnx_domain import DOMAIN, VERSION
from resnest_export.ops.functions import function_bodies
from resnest_export.ops.roi_align import multi_level_roi_align, multi_level_roi_align_reference, roi_levels

STRIDES = (4, 8, 16, 32)


def pytorch(features: Sequence[Tensor], rois: Tensor, size: int, ratio: int) -> Tensor:
    return multi_level_roi_align(features, rois, output_size=size, strides=STRIDES, sampling_ratio=ratio)


def reference(features: Sequence[Tensor], rois: Tensor, size: int, ratio: int) -> Tensor:
    return multi_level_roi_align_reference(features, rois, output_size=size, strides=STRIDES, sampling_ratio=ratio)


def function_body(features: Sequence[Tensor], rois: Tensor, size: int, ratio: int) -> Tensor:
    """Run the operator's function body in ONNX Runtime."""
    names = ["f0", "f1", "f2", "f3", "rois"]
    node = onnx.helper.make_node(
        "MultiLevelRoIAlign",
        names,
        ["pooled"],
        domain=DOMAIN,
        output_size=size,
        strides=STRIDES,
        finest_scale=56.0,
        sampling_ratio=ratio,
    )
    info = onnx.helper.make_tensor_value_info
    inputs = [info(name, onnx.TensorProto.FLOAT, [f"{name}{i}" for i in range(4)]) for name in names[:4]]
    inputs.append(info("rois", onnx.TensorProto.FLOAT, ["r", 5]))
    graph = onnx.helper.make_graph(
        [node], "roi_align", inputs, [info("pooled", onnx.TensorProto.FLOAT, ["r", "c", "s", "t"])]
    )
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid(DOMAIN, VERSION)]
    model = onnx.helper.make_model(graph, functions=function_bodies(), opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feed = {name: tensor.numpy() for name, tensor in zip(names, (*features, rois), strict=True)}
    return torch.from_numpy(np.asarray(session.run(None, feed)[0]))


IMPLEMENTATIONS = {"pytorch": pytorch, "reference": reference, "function body": function_body}
implementations = pytest.mark.parametrize("roi_align", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS.keys())


def pyramid(height: int, width: int, channels: int = 2, batch: int = 1, seed: int = 0) -> list[Tensor]:
    rng = np.random.default_rng(seed)
    shapes = [(batch, channels, height // s, width // s) for s in STRIDES]
    return [torch.from_numpy(rng.standard_normal(shape).astype(np.float32)) for shape in shapes]


@implementations
def test_a_ramp_gives_the_middle_of_each_cell(roi_align) -> None:  # type: ignore[no-untyped-def]
    """On f(y, x) = x + 10·y a cell's value is f at its middle; the edge at 8 px is 1.5 cells from pixel centre 0."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    features = [(x + 10 * y)[None, None], *pyramid(64, 64, 1)[1:]]
    pooled = roi_align(features, torch.tensor([[0.0, 8, 16, 24, 32]]), 2, 0)
    # x: 8/4 − 0.5 = 1.5 to 5.5, cells' middles at 2.5 and 4.5; y: 3.5 to 7.5, at 4.5 and 6.5.
    assert pooled[0, 0].tolist() == [[47.5, 49.5], [67.5, 69.5]]


@implementations
def test_outside_is_zero_and_the_border_is_its_own_value(roi_align) -> None:  # type: ignore[no-untyped-def]
    features = [torch.ones(1, 1, 64 // s, 64 // s) for s in STRIDES]
    rois = torch.tensor([[0.0, -40, -40, -20, -20], [0, -4, 8, 4, 16]])
    pooled = roi_align(features, rois, 1, 0)
    # The first lies more than a cell outside. The second's samples lie at x = −1 and 0 cells: both count as inside.
    assert pooled.flatten().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("side", "level"), [(1.0, 0), (111.9, 0), (112.0, 1), (223.9, 1), (224.0, 2), (447.9, 2), (448.0, 3), (5000.0, 3)]
)
def test_level_by_hand(side: float, level: int) -> None:
    assert roi_levels(torch.tensor([[0.0, 0, 0, side, side]]), 56.0, 4).tolist() == [level]


@implementations
def test_no_regions(roi_align) -> None:  # type: ignore[no-untyped-def]
    assert roi_align(pyramid(64, 64), torch.zeros(0, 5), 7, 0).shape == (0, 2, 7, 7)


@implementations
def test_region_without_extent_is_zero(roi_align) -> None:  # type: ignore[no-untyped-def]
    assert not roi_align(pyramid(64, 64), torch.tensor([[0.0, 8, 8, 8, 8]]), 2, 0).any()


@implementations
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_region_that_is_not_finite_is_zero_and_shifts_no_other(  # type: ignore[no-untyped-def]
    roi_align, ratio: int, number: float
) -> None:
    features = pyramid(160, 256, batch=2)
    sound = torch.tensor([[0.0, 8, 16, 24, 32], [1, 3, 5, 200, 150], [0, 30, 2, 150, 140], [1, 8, 16, 130, 32]])
    rois = torch.cat([torch.stack([sound[0]] * 5), sound])
    rois[:5].diagonal().fill_(number)
    order = torch.tensor([5, 0, 1, 6, 2, 7, 3, 4, 8])
    pooled = roi_align(features, rois[order], 2, ratio)
    assert pooled.shape == (9, 2, 2, 2)
    assert not pooled[order < 5].any()
    torch.testing.assert_close(pooled[order >= 5], roi_align(features, sound, 2, ratio))
    assert pooled[order >= 5].abs().amax((1, 2, 3)).min() > 0


@implementations
@pytest.mark.parametrize("image", [-1.0, 1.0, 7.0])
def test_a_region_of_an_absent_image_is_zero(roi_align, image: float) -> None:  # type: ignore[no-untyped-def]
    rois = torch.tensor([[image, 8, 8, 40, 40], [0, 8, 8, 40, 40]])
    pooled = roi_align(pyramid(64, 64), rois, 2, 0)
    assert not pooled[0].any() and pooled[1].any()


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Tensor], Tensor, int, int]:
    batch = draw(st.integers(1, 3))
    features = pyramid(draw(st.sampled_from([64, 160])), draw(st.sampled_from([96, 256])), batch=batch)
    coordinate = st.floats(-40, 300, width=32)
    rois = []
    for _ in range(draw(st.integers(1, 6))):
        x1, y1 = draw(coordinate), draw(coordinate)
        width, height = draw(st.floats(0.5, 250, width=32)), draw(st.floats(0.5, 250, width=32))
        rois.append([draw(st.integers(0, batch - 1)), x1, y1, x1 + width, y1 + height])
    return features, torch.tensor(rois), draw(st.sampled_from([1, 2, 7])), draw(st.sampled_from([0, 2]))


def near_a_jump(rois: Tensor, size: int) -> bool:
    """Whether a sample count or a level turns on the last bit, where implementations may round to either side."""
    sides = (rois[:, 3:] - rois[:, 1:3]).double()
    cells = torch.cat([sides / stride / size for stride in STRIDES])
    scale = sides.prod(1).sqrt() / 56
    levels = torch.stack([scale / 2**k - 1 for k in (1, 2, 3)])
    return bool((cells - cells.round()).abs().min() < 1e-4 or levels.abs().min() < 1e-4)


@given(problems())
@settings(max_examples=30, deadline=None)
def test_all_agree(problem: tuple[list[Tensor], Tensor, int, int]) -> None:
    features, rois, size, ratio = problem
    assume(not near_a_jump(rois, size))
    expected = reference(features, rois, size, ratio)
    for implementation in (pytorch, function_body):
        # A sample exactly a cell outside may be counted or not: the reference's own rounding decides there.
        ours = implementation(features, rois, size, ratio)
        assert (ours - expected).abs().max() < 2e-4 * max(1.0, float(expected.abs().max())), implementation.__name__


def test_channels_last_maps_are_read_right() -> None:
    features = pyramid(64, 96, channels=8)
    rois = torch.tensor([[0.0, 3, 5, 60, 40]])
    permuted = [feature.to(memory_format=torch.channels_last) for feature in features]
    torch.testing.assert_close(pytorch(permuted, rois, 7, 0), pytorch(features, rois, 7, 0))
