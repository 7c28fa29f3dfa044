"""Attributes, shapes, types and launches of the operators, for ints and for symbolic sizes."""

from typing import Any

import pytest
import sympy  # type: ignore[import-untyped]

from resnest_core.errors import ParameterError
from resnest_export.kernels.contracts import NMS, ROI_ALIGN, NmsAttributes, RoIAlignAttributes, Signature, TensorType
from resnest_export.kernels.launching import nms_launch, roi_align_launch
from resnest_export.ops.roi_align import FINEST_SCALE

STRIDES = (4, 8, 16, 32)
B, R, H, W = sympy.symbols("B R H W", integer=True, positive=True)


def shapes_of_maps(batch: Any, height: Any, width: Any, regions: Any) -> list[list[Any]]:
    return [*[[batch, 256, height // s, width // s] for s in STRIDES], [regions, 5]]


def test_shapes_and_launch_of_roi_align() -> None:
    attributes = RoIAlignAttributes(output_size=7, strides=STRIDES)
    shapes = shapes_of_maps(2, 64, 96, 2000)
    assert attributes.output_shapes(shapes) == ((2000, 256, 7, 7),)
    launch = roi_align_launch(attributes, shapes, channels=256)
    assert launch.grid == (14000, 2, 1)
    assert launch.scalars == (2, 16, 24, 8, 12, 4, 6, 2, 3)
    assert 0 in roi_align_launch(attributes, shapes_of_maps(2, 64, 96, 0), channels=256).grid


def test_shapes_and_launch_of_roi_align_with_unknown_sizes() -> None:
    attributes = RoIAlignAttributes(output_size=14, strides=STRIDES)
    shapes = shapes_of_maps(B, H, W, R)
    assert attributes.output_shapes(shapes) == ((R, 256, 14, 14),)
    launch = roi_align_launch(attributes, shapes, channels=200)
    assert launch.grid == (14 * R, 2, 1)
    assert launch.scalars == (B, H // 4, W // 4, H // 8, W // 8, H // 16, W // 16, H // 32, W // 32)


@pytest.mark.parametrize("batch", [3, B])
def test_shapes_and_launch_of_nms(batch: Any) -> None:
    shapes = [[batch, 4096, 4], [batch, 4096], [batch, 4096]]
    assert NmsAttributes(0.5, 100).output_shapes(shapes) == ((batch, 100), (batch, 1))
    launch = nms_launch(shapes)
    assert (launch.grid, launch.scalars) == ((batch, 1, 1), (4096,))


def test_finest_scale_is_the_references() -> None:
    assert RoIAlignAttributes(7, STRIDES).finest_scale == FINEST_SCALE


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"output_size": 0}, r"output_size must be at least 1, not 0"),
        ({"strides": (4, 8, 16)}, r"strides must be 4 positive numbers of pixels, not \[4, 8, 16\]"),
        ({"strides": (4, 8, 16, 0)}, r"strides must be 4 positive"),
        ({"finest_scale": 0.0}, r"finest_scale must be a positive"),
        ({"finest_scale": float("nan")}, r"finest_scale must be a positive"),
        ({"sampling_ratio": -1}, r"sampling_ratio must be from 0 to 1024, not -1"),
    ],
)
def test_attributes_of_roi_align_that_make_no_sense(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        RoIAlignAttributes(**{"output_size": 7, "strides": STRIDES, **change})


@pytest.mark.parametrize(
    ("threshold", "max_output", "says"),
    [
        (-0.1, 100, r"iou_threshold must be from 0 to 1"),
        (float("nan"), 100, r"iou_threshold must be from 0 to 1"),
        (0.5, 0, r"max_output must be from 1 to 1000, not 0"),
        (0.5, 1001, r"max_output must be from 1 to 1000, not 1001"),
    ],
)
def test_attributes_of_nms_that_make_no_sense(threshold: float, max_output: int, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        NmsAttributes(threshold, max_output)


def test_inputs_that_do_not_fit() -> None:
    with pytest.raises(ParameterError, match=r"at most 4096 boxes of an image on a GPU, not 5000"):
        NmsAttributes(0.5, 100).output_shapes([[1, 5000, 4], [1, 5000], [1, 5000]])
    with pytest.raises(ParameterError, match=r"BatchedNMS takes inputs of \[3, 2, 2\] axes, not \[3, 2\]"):
        NmsAttributes(0.5, 100).output_shapes([[1, 50, 4], [1, 50]])
    with pytest.raises(ParameterError, match=r"MultiLevelRoIAlign takes inputs of \[4, 4, 4, 4, 2\] axes"):
        RoIAlignAttributes(7, STRIDES).output_shapes([[1, 256, 8, 8]] * 5)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_types_of_roi_align(dtype: str, channels_last: bool) -> None:
    maps = TensorType(dtype, channels_last)
    assert Signature((maps, maps, maps, maps, TensorType("float32")), (maps,)) in ROI_ALIGN.signatures
    assert len(ROI_ALIGN.signatures) == 6


def test_types_of_nms() -> None:
    number, whole = TensorType("float32"), TensorType("int32")
    assert NMS.signatures == (Signature((number, number, whole), (whole, whole)),)
    assert len(NMS.inputs + NMS.outputs) == 5
