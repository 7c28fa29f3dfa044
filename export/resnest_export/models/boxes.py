"""Boxes, x1 y1 x2 y2 in pixels, and the deltas that heads predict (Girshick et al. 2014, arXiv:1311.2524, app. C)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MAX_LOG_RATIO = math.log(1000 / 16)


def decode(boxes_xyxy: Tensor, deltas: Tensor, stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Move and scale boxes by deltas dx dy dw dh, in units of `stds`. All (…, 4), broadcast against each other."""
    deltas = deltas * deltas.new_tensor(stds)
    size = boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]
    center = (boxes_xyxy[..., :2] + boxes_xyxy[..., 2:]) * 0.5
    center = center + size * deltas[..., :2]
    half = size * deltas[..., 2:].clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp() * 0.5
    return torch.cat([center - half, center + half], dim=-1)


def clip(boxes_xyxy: Tensor, sizes_hw: Tensor) -> Tensor:
    """Clip boxes (…, 4) to [0, width] and [0, height]; `sizes_hw` (…, 2) broadcasts against them."""
    limits = sizes_hw.flip(-1).to(boxes_xyxy.dtype)
    return torch.minimum(boxes_xyxy.clamp(min=0), torch.cat([limits, limits], dim=-1))


def anchors_at(index: Tensor, width: int, stride: int, scale: float, ratios: Sequence[float]) -> Tensor:
    """Return the anchors (…, 4) of flat positions (…), int64, in a map of `width` cells; order y, x, ratio.

    An anchor is centred on (x·stride, y·stride), without a half-cell offset; its height is `ratio` times its width.
    """
    roots = index.new_tensor([math.sqrt(ratio) for ratio in ratios], dtype=torch.float32)
    cell = index // len(ratios)
    root = roots[index % len(ratios)]
    half_size = torch.stack([0.5 * scale * stride / root, 0.5 * scale * stride * root], dim=-1)
    row = cell // width
    center = torch.stack([cell - row * width, row], dim=-1).float() * stride
    return torch.cat([center - half_size, center + half_size], dim=-1)
