"""Converts the network's mask maps to the mask formats of responses; memory is bounded by the box, not the image.

A map is float16 (S, S): the probability of the predicted class over the box, row by row. Every format is a function of
`(mask, box_xyxy, image_size_hw, threshold=…)` that returns JSON-serializable data.
"""

from __future__ import annotations

import base64
import math
from itertools import pairwise
from typing import Any, Protocol, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from resnest_core.errors import ParameterError
from resnest_core.messages import shortened

Mask: TypeAlias = NDArray[np.float16]
Box: TypeAlias = NDArray[np.float32]


class MaskForm(Protocol):
    """Formats one mask as JSON-serializable data."""

    def __call__(self, mask: Mask, box_xyxy: Box, image_size_hw: tuple[int, int], *, threshold: float = ...) -> Any: ...


THRESHOLD = 0.5  # the published detectors'; `ModelCard.mask_threshold` is a model's own
POLYGON_TOLERANCE = 0.5  # maximum distance in pixels between a polygon and the mask's outline


def paste(
    mask: Mask, box_xyxy: Box, image_size_hw: tuple[int, int], *, threshold: float = THRESHOLD
) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Return the binary mask over its box, bool (h, w), and its corner (x, y) in the image.

    As in mmdetection: pixel p samples the map bilinearly at ((p + 0.5 − start) / extent · S − 0.5), with zeros outside,
    and belongs to the mask from `threshold` on. Outside of the box a sample is at most 0.5, and falls to 0 within half
    a cell: with a lower threshold a mask may leave its box by a part of that.
    """
    height, width = image_size_hw
    x1, y1, x2, y2 = (float(value) for value in box_xyxy)
    beyond = max(0.5 - threshold, 0.0) / mask.shape[0]  # of the box's width and height
    across, down = beyond * (x2 - x1), beyond * (y2 - y1)
    left, top = max(math.floor(x1 - across), 0), max(math.floor(y1 - down), 0)
    right, bottom = min(math.ceil(x2 + across), width), min(math.ceil(y2 + down), height)
    if x2 <= x1 or y2 <= y1 or right <= left or bottom <= top:
        return np.zeros((0, 0), bool), (left, top)
    rows = _interpolation(top, bottom, y1, y2, mask.shape[0])
    columns = _interpolation(left, right, x1, x2, mask.shape[1])
    # Column-major, the order of COCO's run lengths.
    by_columns = columns @ mask.T.astype(np.float32) @ rows.T >= threshold
    return by_columns.T, (left, top)


def _interpolation(first: int, last: int, start: float, end: float, size: int) -> NDArray[np.float32]:
    """Return bilinear weights (last − first, size) of the `size` cells over [start, end] for each pixel's centre."""
    position = (np.arange(first, last, dtype=np.float32) + np.float32(0.5 - start)) * np.float32(size / (end - start))
    return _weights(position, size)


def sampled(mask: Mask, box_xyxy: Box, other_xyxy: Box) -> Mask:
    """Return the map, float16 (S, S), that a mask over a box has over another box: zeros outside of its own."""
    size = mask.shape[0]
    cells = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    sides = np.maximum(box_xyxy[2:] - box_xyxy[:2], 1e-6)
    centres = other_xyxy[:2] + cells[:, None] * (other_xyxy[2:] - other_xyxy[:2])  # (S, 2), x and y
    columns, rows = (_weights(position, size) for position in ((centres - box_xyxy[:2]) * (size / sides)).T)
    return (rows @ mask.astype(np.float32) @ columns.T).astype(np.float16)


def _weights(position: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return bilinear weights (len(position), size) of `size` cells, whose centres are at 0.5, 1.5, …"""
    weights: NDArray[np.float32] = np.subtract.outer(position, np.arange(0.5, size, dtype=np.float32))
    np.abs(weights, out=weights)
    np.subtract(1, weights, out=weights)
    np.maximum(weights, 0, out=weights)
    return weights


def rle(mask: Mask, box_xyxy: Box, image_size_hw: tuple[int, int], *, threshold: float = THRESHOLD) -> dict[str, Any]:
    """Return COCO's compressed RLE, `{"size": [h, w], "counts": "…"}`, without allocating a full-size mask."""
    from pycocotools import mask as coco_mask  # not at the top: Triton's models have no such packages

    crop, (left, top) = paste(mask, box_xyxy, image_size_hw, threshold=threshold)
    height, width = image_size_hw
    # COCO counts in column-major order: a run starts or ends wherever vertical neighbours differ.
    step = crop.shape[0] + 1  # a column and the gap between columns
    flat = np.zeros(crop.shape[1] * step + 1, bool)
    flat[:-1].reshape(-1, step)[:, 1:] = crop.T
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    edges = changes + changes // step * (height - step) + (left * height + top)
    # A run that ends at the image's bottom and goes on at the next column's top is one run.
    again = np.flatnonzero(edges[1:-1:2] == edges[2::2])
    if len(again):
        kept = np.ones(len(edges), bool)
        kept[2 * again + 1] = kept[2 * again + 2] = False
        edges = edges[kept]
    bounds = np.empty(len(edges) + 2, np.int64)
    bounds[0], bounds[1:-1], bounds[-1] = 0, edges, height * width
    counts = bounds[1:] - bounds[:-1]
    if not counts[-1]:
        counts = counts[:-1]
    encoded = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": encoded["counts"].decode()}


def polygons(
    mask: Mask,
    box_xyxy: Box,
    image_size_hw: tuple[int, int],
    tolerance: float = POLYGON_TOLERANCE,
    *,
    threshold: float = THRESHOLD,
) -> list[list[list[list[float]]]]:
    """Return the mask's parts as polygons: each a list of rings, the outline first, holes after, of points [x, y].

    Points are in pixels of the image, where pixel 0 spans 0…1. `tolerance` is the maximum distance, in pixels, between
    a ring and the outline; 0 keeps every corner.
    """
    import contourpy

    crop, (left, top) = paste(mask, box_xyxy, image_size_hw, threshold=threshold)
    if not crop.any():
        return []
    contours = contourpy.contour_generator(z=np.pad(crop, 1).astype(np.float32), fill_type="OuterOffset")
    parts = contours.filled(0.5, 2.0)
    corner = np.array([left, top]) - 0.5  # the frame's own pixel, and half a pixel from centres to edges
    return [
        [_simplify(points[start:end], tolerance, corner) for start, end in pairwise(offsets)]
        for points, offsets in zip(*parts, strict=True)
    ]


def _simplify(ring: NDArray[np.float64], tolerance: float, corner: NDArray[np.float64]) -> list[list[float]]:
    """Return an open ring of points within `tolerance` of a closed one (N, 2)."""
    points = ring[:-1]
    simple = cv2.approxPolyDP(points.astype(np.float32)[:, None], tolerance, True)[:, 0] if tolerance else points
    kept: list[list[float]] = ((simple if len(simple) > 2 else points) + corner).round(2).tolist()
    return kept


def png(mask: Mask, box_xyxy: Box, image_size_hw: tuple[int, int], *, threshold: float = THRESHOLD) -> dict[str, Any]:
    """Return the mask over its box as a grey PNG of 0 and 255: `{"offset": [x, y], "size": [h, w], "data": base64}`."""
    crop, (left, top) = paste(mask, box_xyxy, image_size_hw, threshold=threshold)
    data = cv2.imencode(".png", crop.astype(np.uint8) * 255)[1].tobytes() if crop.size else b""
    return {"offset": [left, top], "size": list(crop.shape), "data": base64.b64encode(data).decode()}


def raw(
    mask: Mask,
    box_xyxy: Box,  # noqa: ARG001
    image_size_hw: tuple[int, int],  # noqa: ARG001
    *,
    threshold: float = THRESHOLD,  # noqa: ARG001
) -> dict[str, Any]:
    """Return the map itself: `{"shape": [S, S], "dtype": "float16", "data": base64}`, little-endian."""
    data = base64.b64encode(mask.astype("<f2").tobytes()).decode()
    return {"shape": list(mask.shape), "dtype": "float16", "data": data}


def from_raw(answer: dict[str, Any]) -> Mask:
    """Return the map that `raw` encoded, float16 (S, S)."""
    array = np.frombuffer(base64.b64decode(answer["data"]), "<f2").reshape(answer["shape"])
    return array.astype(np.float16)


MASK_FORMS: dict[str, MaskForm] = {"rle": rle, "polygons": polygons, "png": png, "raw": raw}


def mask_form(name: str) -> MaskForm | None:
    """Return the mask format of this name; None for `none`.

    Raises:
        ParameterError: there is no such format.
    """
    if name != "none" and name not in MASK_FORMS:
        raise ParameterError(f"masks must be one of {', '.join(MASK_FORMS)} or none, not {shortened(name)}.")
    return MASK_FORMS.get(name)
