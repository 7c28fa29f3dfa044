"""Batched NMS: greedy non-maximum suppression within groups, for a batch of images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def batched_nms(
    boxes_xyxy: Tensor, scores: Tensor, groups: Tensor, *, iou_threshold: float, max_output: int
) -> tuple[Tensor, Tensor]:
    """Keep the best boxes of each image that no better box of the same group overlaps by more than `iou_threshold`.

    Args:
        boxes_xyxy: float (B, M, 4).
        scores: float (B, M); −inf is no box, see `is_box`.
        groups: int32 (B, M), such as classes; boxes of different groups don't suppress each other. They are moved
            apart first, see `apart`.
        iou_threshold: a box is suppressed by an intersection over union above it, not at it.
        max_output: K, boxes kept per image.

    Returns:
        indices int32 (B, K) of the kept boxes, best score first (of equal scores the first), −1 after the last;
        and their number, int32 (B, 1).
    """
    if torch.compiler.is_exporting():
        batch = scores.shape[0]
        indices, num = torch.onnx.ops.symbolic_multi_out(
            "resnest::BatchedNMS",
            (boxes_xyxy, scores, groups),
            {"iou_threshold": iou_threshold, "max_output": max_output},
            dtypes=(torch.int32, torch.int32),
            shapes=((batch, max_output), (batch, 1)),
            version=1,
        )
        return indices, num
    scores = scores.masked_fill(~is_box(boxes_xyxy, scores), -torch.inf)
    indices = torch.full((len(scores), max_output), -1, dtype=torch.int32)
    num = torch.zeros(len(scores), 1, dtype=torch.int32)
    for image, (moved, its_scores) in enumerate(zip(apart(boxes_xyxy, scores, groups), scores, strict=True)):
        keep = _nms(moved.numpy(), its_scores.numpy(), iou_threshold, max_output)
        indices[image, : len(keep)] = torch.from_numpy(keep).int()
        num[image] = len(keep)
    return indices, num


def is_box(boxes_xyxy: Tensor, scores: Tensor) -> Tensor:
    """Whether each of boxes (B, M, 4) is one, (B, M): its score is a number above −inf, its corners finite.

    A number that a network let overflow must cost its own box only, not all others of the image.
    """
    return (scores > -torch.inf) & boxes_xyxy.isfinite().all(-1)


def apart(boxes_xyxy: Tensor, scores: Tensor, groups: Tensor) -> Tensor:
    """Move the boxes (B, M, 4) of each group so far that boxes of different groups don't overlap, as mmcv does.

    That far out float32 has coarser steps (0.008 px at the last class of a large image), which turns decisions at the
    threshold: a detector gives mmdetection's answers only if it takes the same steps.
    """
    known = boxes_xyxy.masked_fill(scores[..., None] == -torch.inf, 0)
    extent = known.amax((1, 2), keepdim=True) - known.amin((1, 2), keepdim=True).clamp(max=0) + 1
    return boxes_xyxy + groups[..., None] * extent


def _nms(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], iou_threshold: float, max_output: int
) -> NDArray[np.int64]:
    """Return the indices that one image keeps: each kept box suppresses the rest in one sweep over arrays."""
    order = np.argsort(-scores, kind="stable")
    order = order[: (scores > -np.inf).sum()]
    boxes = boxes[order]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    alive = np.ones(len(order), bool)
    keep: list[int] = []
    for i in range(len(order)):
        if not alive[i]:
            continue
        keep.append(i)
        if len(keep) == max_output:
            break
        rest = slice(i + 1, None)
        overlap = np.minimum(boxes[rest, 2:], boxes[i, 2:]) - np.maximum(boxes[rest, :2], boxes[i, :2])
        intersection = overlap.clip(min=0).prod(1)
        with np.errstate(invalid="ignore"):  # two empty boxes: not a number, and not above
            alive[rest] &= ~(intersection / (areas[rest] + areas[i] - intersection) > np.float32(iou_threshold))
    return order[keep]


def batched_nms_reference(
    boxes_xyxy: Tensor, scores: Tensor, groups: Tensor, *, iou_threshold: float, max_output: int
) -> tuple[Tensor, Tensor]:
    """The same as `batched_nms`, one box at a time: for reading, and to compare the fast ones with."""
    indices = torch.full((len(scores), max_output), -1, dtype=torch.int32)
    num = torch.zeros(len(scores), 1, dtype=torch.int32)
    scores = scores.masked_fill(~is_box(boxes_xyxy, scores), -torch.inf)
    boxes_xyxy = apart(boxes_xyxy, scores, groups)
    for image in range(len(scores)):
        keep: list[int] = []
        order = sorted(range(scores.shape[1]), key=lambda i: (-float(scores[image, i]), i))
        for i in order:
            if len(keep) == max_output or scores[image, i] == -torch.inf:
                break
            rivals = [j for j in keep if groups[image, j] == groups[image, i]]
            if all(iou(boxes_xyxy[image, i], boxes_xyxy[image, j]) <= np.float32(iou_threshold) for j in rivals):
                keep.append(i)
        indices[image, : len(keep)] = torch.tensor(keep, dtype=torch.int32)
        num[image] = len(keep)
    return indices, num


def iou(a_xyxy: Tensor, b_xyxy: Tensor) -> float:
    """Return the intersection over union of two boxes (4,) in float32, 0 for two empty ones."""
    ax1, ay1, ax2, ay2 = a_xyxy.numpy()
    bx1, by1, bx2, by2 = b_xyxy.numpy()
    zero = np.float32(0)
    intersection = max(min(ax2, bx2) - max(ax1, bx1), zero) * max(min(ay2, by2) - max(ay1, by1), zero)
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - intersection
    return float(intersection / union) if union > 0 else 0.0
