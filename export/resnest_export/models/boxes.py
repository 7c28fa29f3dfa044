"""Boxes, x1 y1 x2 y2 in pixels, and the deltas that heads predict (Girshick et al. 2014, arXiv:1311.2524, app. C)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from resnest_export.mmdet_config.settings import AnchorSettings, BoxCoderSettings

MAX_LOG_RATIO = math.log(1000 / 16)


def decode(boxes_xyxy: Tensor, deltas: Tensor, coder: BoxCoderSettings) -> Tensor:
    """Move and scale boxes by deltas dx dy dw dh, scaled by the coder. All (…, 4), broadcast against each other."""
    deltas = deltas * deltas.new_tensor(coder.stds)
    if any(coder.means):
        deltas = deltas + deltas.new_tensor(coder.means)
    size = boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]
    center = (boxes_xyxy[..., :2] + boxes_xyxy[..., 2:]) * 0.5
    center = center + size * deltas[..., :2]
    half = size * deltas[..., 2:].clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp() * 0.5
    return torch.cat([center - half, center + half], dim=-1)


def decode_and_clip(boxes_xyxy: Tensor, deltas: Tensor, coder: BoxCoderSettings, sizes_hw: Tensor) -> Tensor:
    """Decode boxes (N, 4) or (N, M, 4), and clip them to images of `sizes_hw` (N, 2) if the coder does so."""
    decoded = decode(boxes_xyxy, deltas, coder)
    if not coder.clip_border:
        return decoded
    return clip(decoded, sizes_hw[:, None] if decoded.dim() == 3 else sizes_hw)


def clip(boxes_xyxy: Tensor, sizes_hw: Tensor) -> Tensor:
    """Clip boxes (…, 4) to [0, width] and [0, height]; `sizes_hw` (…, 2) broadcasts against them."""
    limits = sizes_hw.flip(-1).to(boxes_xyxy.dtype)
    return torch.minimum(boxes_xyxy.clamp(min=0), torch.cat([limits, limits], dim=-1))


def anchors_at(index: Tensor, width: int, level: int, settings: AnchorSettings) -> Tensor:
    """Return the anchors (…, 4) of flat positions (…), int64, in a level's map of `width` cells; order y, x, anchor.

    An anchor is centred on cell · stride + center_offset · base size; its height is `ratio` times its width.
    """
    stride, base_size = settings.strides[level], settings.base_sizes[level]
    pairs = [(ratio, scale) for ratio in settings.ratios for scale in settings.scales]
    if not settings.scale_major:
        pairs = [(ratio, scale) for scale in settings.scales for ratio in settings.ratios]
    roots = index.new_tensor([math.sqrt(ratio) for ratio, _ in pairs], dtype=torch.float32)
    cell = index // len(pairs)
    kind = index % len(pairs)
    root = roots[kind]
    if len(settings.scales) == 1:
        extent: float | Tensor = 0.5 * settings.scales[0] * base_size
    else:
        extent = index.new_tensor([0.5 * scale * base_size for _, scale in pairs], dtype=torch.float32)[kind]
    half_size = torch.stack([extent / root, extent * root], dim=-1)
    row = cell // width
    center = torch.stack([cell - row * width, row], dim=-1).float() * stride
    if settings.center_offset:
        center = center + settings.center_offset * base_size
    return torch.cat([center - half_size, center + half_size], dim=-1)
