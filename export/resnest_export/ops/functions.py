"""ONNX function bodies of our operators in standard operators, so that an exported file runs anywhere.

ONNX Runtime inlines them; TensorRT takes the plugins of the same names instead. `resnest_export.ops.nms` and
`resnest_export.ops.roi_align` say what the operators mean.
"""

# ruff: noqa: N802 - operators have capital letters
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnxscript import FLOAT, INT32, INT64, script
from onnxscript import opset18 as op
from onnxscript.values import Opset

from resnest_export.onnx_domain import DOMAIN, VERSION

resnest = Opset(DOMAIN, VERSION)


@script(resnest, default_opset=op)
def RoIAlignOnLevel(
    feature: FLOAT[...], rois: FLOAT[...], rows: INT64[...], pixels: FLOAT[...], output_size: int, sampling_ratio: int
):
    picked = op.Gather(rois, rows)
    image = op.Cast(op.Squeeze(picked[:, 0:1], op.Constant(value_ints=[1])), to=7)
    return op.RoiAlign(
        feature,
        picked[:, 1:5] / pixels,
        image,
        output_height=output_size,
        output_width=output_size,
        sampling_ratio=sampling_ratio,
        coordinate_transformation_mode="half_pixel",
    )


@script(resnest, default_opset=op)
def MultiLevelRoIAlign(
    f0: FLOAT[...],
    f1: FLOAT[...],
    f2: FLOAT[...],
    f3: FLOAT[...],
    rois: FLOAT[...],
    output_size: int,
    strides: Sequence[int],
    finest_scale: float,
    sampling_ratio: int,
):
    # A region of numbers that aren't finite, or of an image that isn't there, is moved to where all samples are 0.
    is_finite = op.Where(op.Abs(rois) < 3.4e38, 1.0, 0.0)
    image = rois[:, 0:1]
    images = op.Cast(op.Shape(f0, start=0, end=1), to=1)
    is_there = op.And(op.ReduceMin(is_finite, op.Constant(value_ints=[1])) > 0.5, op.And(image >= 0.0, image < images))
    regions = op.Where(is_there, rois, op.Constant(value_floats=[0.0, -1e6, -1e6, -1e6, -1e6]))
    size = op.Max(regions[:, 3:5] - regions[:, 1:3], op.Constant(value_float=0.0))
    ratio = op.Sqrt(op.ReduceProd(size, op.Constant(value_ints=[1]), keepdims=0)) / finest_scale + 1e-6
    # Each region is pooled on its own level only, then the levels' results are put in the regions' order.
    at0 = op.Squeeze(op.NonZero(ratio < 2.0), op.Constant(value_ints=[0]))
    at1 = op.Squeeze(op.NonZero(op.And(ratio >= 2.0, ratio < 4.0)), op.Constant(value_ints=[0]))
    at2 = op.Squeeze(op.NonZero(op.And(ratio >= 4.0, ratio < 8.0)), op.Constant(value_ints=[0]))
    at3 = op.Squeeze(op.NonZero(ratio >= 8.0), op.Constant(value_ints=[0]))
    # RoiAlign's spatial_scale can't be an element of an attribute of the function: the boxes are divided instead.
    pixels = op.Cast(op.Constant(value_ints=strides), to=1)
    pooled = op.Concat(
        RoIAlignOnLevel(f0, regions, at0, op.Gather(pixels, 0), output_size=output_size, sampling_ratio=sampling_ratio),
        RoIAlignOnLevel(f1, regions, at1, op.Gather(pixels, 1), output_size=output_size, sampling_ratio=sampling_ratio),
        RoIAlignOnLevel(f2, regions, at2, op.Gather(pixels, 2), output_size=output_size, sampling_ratio=sampling_ratio),
        RoIAlignOnLevel(f3, regions, at3, op.Gather(pixels, 3), output_size=output_size, sampling_ratio=sampling_ratio),
        axis=0,
    )
    order = op.Concat(at0, at1, at2, at3, axis=0)
    count = op.Gather(op.Shape(order), 0)
    return op.Gather(pooled, op.ScatterElements(order, order, op.Range(0, count, 1)))


@script(resnest, default_opset=op)
def BatchedNMS(boxes: FLOAT[...], scores: FLOAT[...], groups: INT32[...], iou_threshold: float, max_output: int):
    # Groups are moved apart by float32 steps, as `resnest_export.ops.nms.apart` does.
    corners = op.Constant(value_ints=[1, 2])
    is_box = op.Unsqueeze(scores > -3.0e38, op.Constant(value_ints=[2]))
    known = op.Where(is_box, boxes, 0.0)
    extent = op.ReduceMax(known, corners) - op.Min(op.ReduceMin(known, corners), 0.0) + 1.0
    shift = op.Unsqueeze(op.Cast(groups, to=1), op.Constant(value_ints=[2])) * extent
    limit = op.Constant(value_int=max_output)
    kept = op.NonMaxSuppression(
        boxes + shift,
        op.Unsqueeze(scores, op.Constant(value_ints=[1])),
        limit,
        op.Constant(value_float=iou_threshold),
        op.Constant(value_float=-3.0e38),  # -inf is no box
    )  # (N, 3): image, 0, box; sorted by image, then best score first
    image = op.Squeeze(kept[:, 0:1], op.Constant(value_ints=[1]))
    box = op.Squeeze(kept[:, 2:3], op.Constant(value_ints=[1]))
    batch = op.Gather(op.Shape(scores), 0)
    images = op.Unsqueeze(op.Range(0, batch, 1), op.Constant(value_ints=[1]))
    num = op.ReduceSum(
        op.Cast(op.Unsqueeze(image, op.Constant(value_ints=[0])) == images, to=7), op.Constant(value_ints=[1])
    )
    first = op.Squeeze(op.CumSum(num, 0, exclusive=1), op.Constant(value_ints=[1]))
    count = op.Gather(op.Shape(image), 0)
    place = op.Range(0, count, 1) - op.Gather(first, image)
    columns = op.Constant(value_ints=[1])
    cells = op.Concat(op.Unsqueeze(image, columns), op.Unsqueeze(place, columns), axis=1)
    shape = op.Concat(op.Reshape(batch, columns), op.Reshape(limit, columns), axis=0)
    empty = op.Expand(op.Constant(value_ints=[-1]), shape)
    indices = op.Cast(op.ScatterND(empty, cells, box), to=6)
    return indices, op.Cast(num, to=6)


@script(resnest, default_opset=op)
def BatchedSoftNMS(
    boxes: FLOAT[...],
    scores: FLOAT[...],
    groups: INT32[...],
    method: int,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    max_output: int,
):
    corners = op.Constant(value_ints=[1, 2])
    last = op.Constant(value_ints=[2])
    row = op.Constant(value_ints=[1])
    none = op.Constant(value_float=-3.4e38)  # of the scores that are no box's
    known = op.Where(op.Unsqueeze(scores > -3.0e38, last), boxes, 0.0)
    extent = op.ReduceMax(known, corners) - op.Min(op.ReduceMin(known, corners), 0.0) + 1.0
    moved = known + op.Unsqueeze(op.Cast(groups, to=1), last) * extent
    areas = op.ReduceProd(moved[:, :, 2:4] - moved[:, :, 0:2], last, keepdims=0)
    batch = op.Gather(op.Shape(scores), 0)
    boxes_count = op.Gather(op.Shape(scores), 1)
    limit = op.Constant(value_int=max_output)
    columns = op.Unsqueeze(op.Range(0, limit, 1), op.Constant(value_ints=[0]))  # (1, K)
    places = op.Unsqueeze(op.Range(0, boxes_count, 1), op.Constant(value_ints=[0]))  # (1, M)
    shape = op.Concat(op.Reshape(batch, row), op.Reshape(limit, row), axis=0)
    kind = op.Constant(value_int=method)
    threshold = op.Constant(value_float=iou_threshold)
    spread = op.Constant(value_float=sigma)
    lowest = op.Constant(value_float=min_score)
    current = op.Max(scores, none)
    indices = op.Expand(op.Constant(value_ints=[-1]), shape)
    lowered = op.Expand(none, shape)
    for i in range(limit):
        best = op.ArgMax(current, axis=1, keepdims=1)  # (B, 1), of equals the first
        score = op.GatherElements(current, best, axis=1)
        is_there = score > -3.0e38
        here = columns == i
        indices = op.Where(op.And(here, is_there), best, indices)
        lowered = op.Where(op.And(here, is_there), score, lowered)
        four = op.Expand(op.Unsqueeze(best, last), op.Constant(value_ints=[1, 1, 4]))
        box = op.GatherElements(moved, four, axis=1)  # (B, 1, 4)
        overlap = op.Min(moved[:, :, 2:4], box[:, :, 2:4]) - op.Max(moved[:, :, 0:2], box[:, :, 0:2])
        intersection = op.ReduceProd(op.Max(overlap, 0.0), last, keepdims=0)  # (B, M)
        union = areas + op.GatherElements(areas, best, axis=1) - intersection
        ratio = op.Where(union > 0.0, intersection / op.Where(union > 0.0, union, 1.0), 0.0)
        linear = op.Where(ratio >= threshold, 1.0 - ratio, 1.0)
        naive = op.Where(ratio >= threshold, 0.0, 1.0)
        gaussian = op.Exp(op.Neg(ratio * ratio / spread))
        weight = op.Where(kind == 2, gaussian, op.Where(kind == 1, linear, naive))
        after = op.Where(current > -3.0e38, current * weight, none)
        after = op.Where(after < lowest, none, after)
        current = op.Where(places == best, none, after)
    infinity = op.Constant(value_float=float("-inf"))
    return op.Cast(indices, to=6), op.Where(lowered > -3.0e38, lowered, infinity)


@script(resnest, default_opset=op)
def WinogradConv(
    x: FLOAT[...],
    weights: FLOAT[...],
    identity: FLOAT[...],
    bias: FLOAT[...],
    into: FLOAT[...],
    back: FLOAT[...],
    channels: int,
):
    # `resnest_export.winograd` says what is computed. Tiles of 6×6 begin every 4 rows (T) and columns (U) of a map that
    # is padded by 1 on the left and above, and to whole tiles on the right and below.
    batch = op.Shape(x, start=0, end=1)
    in_channels = op.Shape(weights, start=1, end=2)
    out_channels = op.Shape(weights, start=2, end=3)
    size = op.Shape(x, start=2, end=4)
    count = (size + 3) / 4  # T, U
    none = op.Constant(value_ints=[0, 0])
    one = op.Constant(value_ints=[1, 1])
    x = op.Pad(x, op.Concat(none, one, none, 4 * count - size + 1, axis=0))
    x = op.Transpose(x, perm=[0, 2, 3, 1])  # (B, 4·T + 2, 4·U + 2, C)
    rest = op.Constant(value_ints=[-1])
    six = op.Constant(value_ints=[6])
    width = op.Shape(x, start=2, end=3)
    column = op.Constant(value_ints=[1])
    inside = op.Unsqueeze(op.Range(0, 6, 1), op.Constant(value_ints=[0]))
    rows = op.Unsqueeze(4 * op.Range(0, op.Gather(count, 0), 1), column) + inside  # (T, 6)
    columns = op.Unsqueeze(4 * op.Range(0, op.Gather(count, 1), 1), column) + inside  # (U, 6)
    x = op.Reshape(op.Gather(x, rows, axis=1), op.Constant(value_ints=[0, 0, 0, -1]))
    x = op.Reshape(op.MatMul(into, x), op.Concat(rest, width, in_channels, axis=0))  # (B·T·6, 4·U + 2, C)
    x = op.MatMul(into, op.Gather(x, columns, axis=1))  # (B·T·6, U, 6, C)
    across = op.Shape(columns, start=0, end=1)
    x = op.Reshape(x, op.Concat(rest, six, across, six, in_channels, axis=0))
    x = op.Reshape(op.Transpose(x, perm=[1, 3, 0, 2, 4]), op.Concat(six * six, rest, in_channels, axis=0))
    x = op.MatMul(x, weights)  # (36, B·T·U, C')
    x = op.Reshape(x, op.Concat(six, six, rest, across, out_channels, axis=0))
    x = op.MatMul(back, op.Transpose(x, perm=[2, 0, 3, 1, 4]))  # (B·T, 6, U, 4, C')
    x = op.Reshape(x, op.Concat(batch, op.Shape(rows, start=0, end=1), six, rest, axis=0))
    x = op.MatMul(back, x)  # (B, T, 4, U·4·C')
    x = op.Reshape(x, op.Concat(batch, rest, 4 * across, out_channels, axis=0))
    x = op.Slice(x, none, size, op.Constant(value_ints=[1, 2]))
    x = op.Transpose(x, perm=[0, 3, 1, 2])
    # The bias as a convolution: OpenVINO then lays the maps out as RoiAlign reads them fastest.
    return op.Conv(x, identity, bias, group=channels)


ALWAYS = (RoIAlignOnLevel, MultiLevelRoIAlign, BatchedNMS)
WINOGRAD_CONV = "WinogradConv"
SOMETIMES: dict[str, Any] = {"BatchedSoftNMS": BatchedSoftNMS, WINOGRAD_CONV: WinogradConv}


def function_bodies(graph: onnx.GraphProto | None = None) -> list[onnx.FunctionProto]:
    """Return the functions, to be appended to a model of `graph`; those that few models call only where it does."""
    called = {node.op_type for node in graph.node} if graph else set()
    bodies = (*ALWAYS, *(body for name, body in SOMETIMES.items() if name in called))
    return [body.to_function_proto() for body in bodies]
