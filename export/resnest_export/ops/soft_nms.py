"""Batched soft-NMS (Bodla et al. 2017, arXiv:1704.04503) within groups, for a batch of images, as mmcv computes it."""

from __future__ import annotations

import torch
from torch import Tensor

from resnest_export.mmdet_config.settings import NMSSettings
from resnest_export.ops.nms import apart, is_box

METHODS = {"naive": 0, "linear": 1, "gaussian": 2}
SIGMA = 0.5  # of mmcv, where the method needs none


def batched_soft_nms(
    boxes_xyxy: Tensor, scores: Tensor, groups: Tensor, settings: NMSSettings, *, max_output: int
) -> tuple[Tensor, Tensor]:
    """Choose the box of the best score, lower the scores of those that it overlaps, and so on.

    Args:
        boxes_xyxy: float (B, M, 4).
        scores: float (B, M); −inf is no box.
        groups: int32 (B, M), such as classes; boxes of different groups don't affect each other. They are moved apart
            first, see `resnest_export.ops.nms.apart`.
        settings: the method, `iou_threshold` (linear and naive), `sigma` (gaussian), and `min_score`, below which a
            lowered score drops its box.
        max_output: K, boxes chosen per image: those with the best lowered scores, since these only fall.

    Returns:
        indices int32 (B, K) of the chosen boxes, best lowered score first, −1 after the last; and their lowered
        scores float (B, K), −inf after the last.
    """
    method = METHODS[settings.method or "linear"]
    sigma = SIGMA if settings.sigma is None else settings.sigma
    min_score = settings.min_score or 0.0
    if torch.compiler.is_exporting():
        batch = scores.shape[0]
        indices, lowered = torch.onnx.ops.symbolic_multi_out(
            "resnest::BatchedSoftNMS",
            (boxes_xyxy, scores, groups),
            {
                "method": method,
                "iou_threshold": settings.iou_threshold,
                "sigma": sigma,
                "min_score": min_score,
                "max_output": max_output,
            },
            dtypes=(torch.int32, torch.float32),
            shapes=((batch, max_output), (batch, max_output)),
            version=1,
        )
        return indices, lowered
    scores = scores.masked_fill(~is_box(boxes_xyxy, scores), -torch.inf)
    boxes = apart(boxes_xyxy, scores, groups)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(-1)  # (B, M)
    rows = torch.arange(len(scores))
    chosen: list[Tensor] = []
    lowered_scores: list[Tensor] = []
    for _ in range(max_output):
        best = scores.argmax(1)  # (B,), of equals the first
        score = scores[rows, best]
        there = score > -torch.inf
        chosen.append(torch.where(there, best, -1))
        lowered_scores.append(score)
        box = boxes[rows, best][:, None]  # (B, 1, 4)
        overlap = torch.minimum(boxes[..., 2:], box[..., 2:]) - torch.maximum(boxes[..., :2], box[..., :2])
        intersection = overlap.clamp(min=0).prod(-1)
        ratio = intersection / (areas + areas[rows, best][:, None] - intersection)
        scores = torch.where(
            scores > -torch.inf, scores * _weight(ratio, method, settings.iou_threshold, sigma), scores
        )
        scores = scores.masked_fill(scores < min_score, -torch.inf)
        scores[rows, best] = -torch.inf
    return torch.stack(chosen, 1).int(), torch.stack(lowered_scores, 1)


def _weight(ratio: Tensor, method: int, iou_threshold: float, sigma: float) -> Tensor:
    """Return the factor of a score by its box's IoU with the chosen one; two empty boxes don't overlap."""
    ratio = ratio.nan_to_num(0.0)
    if method == METHODS["gaussian"]:
        return torch.exp(-(ratio * ratio) / sigma)
    lowered = 1 - ratio if method == METHODS["linear"] else torch.zeros_like(ratio)
    return torch.where(ratio >= iou_threshold, lowered, 1.0)
