"""ONNX function bodies of the two operators in standard operators, so that an exported file runs anywhere.

ONNX Runtime inlines them; TensorRT takes the plugins of the same names instead. `resnest_export.ops.nms` and
`resnest_export.ops.roi_align` say what the operators mean.
"""

# ruff: noqa: N802 - operators have capital letters
from __future__ import annotations

from collections.abc import Sequence

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
    size = op.Max(rois[:, 3:5] - rois[:, 1:3], op.Constant(value_float=0.0))
    ratio = op.Sqrt(op.ReduceProd(size, op.Constant(value_ints=[1]), keepdims=0)) / finest_scale + 1e-6
    # Each region is pooled on its own level only, then the levels' results are put in the regions' order.
    at0 = op.Squeeze(op.NonZero(ratio < 2.0), op.Constant(value_ints=[0]))
    at1 = op.Squeeze(op.NonZero(op.And(ratio >= 2.0, ratio < 4.0)), op.Constant(value_ints=[0]))
    at2 = op.Squeeze(op.NonZero(op.And(ratio >= 4.0, ratio < 8.0)), op.Constant(value_ints=[0]))
    at3 = op.Squeeze(op.NonZero(ratio >= 8.0), op.Constant(value_ints=[0]))
    # RoiAlign's spatial_scale can't be an element of an attribute of the function: the boxes are divided instead.
    pixels = op.Cast(op.Constant(value_ints=strides), to=1)
    pooled = op.Concat(
        RoIAlignOnLevel(f0, rois, at0, op.Gather(pixels, 0), output_size=output_size, sampling_ratio=sampling_ratio),
        RoIAlignOnLevel(f1, rois, at1, op.Gather(pixels, 1), output_size=output_size, sampling_ratio=sampling_ratio),
        RoIAlignOnLevel(f2, rois, at2, op.Gather(pixels, 2), output_size=output_size, sampling_ratio=sampling_ratio),
        RoIAlignOnLevel(f3, rois, at3, op.Gather(pixels, 3), output_size=output_size, sampling_ratio=sampling_ratio),
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


SOFT_NMS = "BatchedSoftNMS"


def function_bodies(*, soft_nms: bool = False) -> list[onnx.FunctionProto]:
    """Return the functions, to be appended to a model that calls them; that of soft-NMS only where it is used."""
    bodies = (RoIAlignOnLevel, MultiLevelRoIAlign, BatchedNMS, *((BatchedSoftNMS,) if soft_nms else ()))
    return [body.to_function_proto() for body in bodies]
