"""Multi-level RoIAlign (He et al. 2017, arXiv:1703.06870; the level by Lin et al. 2017, arXiv:1612.03144, eq. 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

FINEST_SCALE = 56.0


def multi_level_roi_align(
    features: Sequence[Tensor],
    rois: Tensor,
    *,
    output_size: int,
    strides: Sequence[int],
    finest_scale: float = FINEST_SCALE,
    sampling_ratio: int = 0,
) -> Tensor:
    """Pool each region from the level that suits its size.

    Args:
        features: four maps (B, C, H_l, W_l), finest first, in float32, float16 or bfloat16.
        rois: float32 (R, 5), image index, x1 y1 x2 y2 in pixels of the image.
        output_size: S, cells of a side.
        strides: pixels of a cell of each map.
        finest_scale: a region of area (2·finest_scale)² leaves the finest level.
        sampling_ratio: samples of a side of an output cell; 0: as many as cells of the map fit, rounded up.

    Returns:
        (R, C, S, S): the mean of bilinear samples over each cell, cells aligned to pixel centres (`aligned=True`);
        computed in float32, of the features' type. 0 for a region with a coordinate that isn't finite, and for one of
        an image that isn't there.
    """
    if torch.compiler.is_exporting():
        return torch.onnx.ops.symbolic(
            "resnest::MultiLevelRoIAlign",
            (*features, rois),
            {
                "output_size": output_size,
                "strides": list(strides),
                "finest_scale": finest_scale,
                "sampling_ratio": sampling_ratio,
            },
            dtype=features[0].dtype,
            shape=(rois.shape[0], features[0].shape[1], output_size, output_size),
            version=1,
        )
    levels = roi_levels(rois, finest_scale, len(features))
    finite = rois.isfinite().all(1)
    dtype, features = features[0].dtype, [feature.float() for feature in features]
    pooled = rois.new_zeros(len(rois), features[0].shape[1], output_size, output_size)
    for level, (feature, stride) in enumerate(zip(features, strides, strict=True)):
        for image in range(len(feature)):
            rows = (finite & (levels == level) & (rois[:, 0] == image)).nonzero().squeeze(1)
            boxes = rois[rows, 1:] / stride - 0.5
            counts = sample_counts(boxes, output_size, sampling_ratio)
            # Regions that need the same number of samples share one call.
            for count in torch.unique(counts, dim=0):
                same = (counts == count).all(1)
                pooled[rows[same]] = _sample(feature[image], boxes[same], output_size, *count.tolist())
    return pooled.to(dtype)


def roi_levels(rois: Tensor, finest_scale: float, count: int) -> Tensor:
    """Return the level (R,) of each region: floor(log2(√area / finest_scale)), clamped; by comparisons, so exact."""
    size = (rois[:, 3:] - rois[:, 1:3]).clamp(min=0)
    ratio = size.prod(1).sqrt() / finest_scale + 1e-6
    return sum(((ratio >= 2**level).long() for level in range(1, count)), torch.zeros_like(ratio, dtype=torch.long))


def sample_counts(boxes: Tensor, output_size: int, sampling_ratio: int) -> Tensor:
    """Return how many samples (R, 2), down and across, a cell of each box (R, 4) takes; 0 for a box without extent."""
    if sampling_ratio:
        return torch.full((len(boxes), 2), sampling_ratio)
    return ((boxes[:, 2:] - boxes[:, :2]).flip(1) / output_size).ceil().long().clamp(min=0)


def _sample(feature: Tensor, boxes: Tensor, size: int, down: int, across: int) -> Tensor:
    """Pool boxes (N, 4) in cells of `feature` (C, H, W) with down × across samples a cell: (N, C, size, size)."""
    if not (down and across):
        return feature.new_zeros(len(boxes), len(feature), size, size)
    height, width = feature.shape[1:]
    y = _positions(boxes[:, 1], boxes[:, 3], size * down)  # (N, S·down)
    x = _positions(boxes[:, 0], boxes[:, 2], size * across)  # (N, S·across)
    inside = ((y >= -1) & (y <= height))[:, :, None] & ((x >= -1) & (x <= width))[:, None, :]
    # grid_sample's coordinates run from −1 to 1 over the map's outer edges; its border padding clamps as RoIAlign does.
    grid_y = ((2 * y + 1) / height - 1)[:, :, None].expand(-1, -1, x.shape[1])
    grid_x = ((2 * x + 1) / width - 1)[:, None, :].expand(-1, y.shape[1], -1)
    grid = torch.stack([grid_x, grid_y], dim=-1).flatten(0, 1)  # (N·S·down, S·across, 2)
    samples = F.grid_sample(feature[None], grid[None], padding_mode="border", align_corners=False)[0]
    samples = samples * inside.flatten(0, 1)
    cells = F.avg_pool2d(samples, (down, across))  # (C, N·S, S)
    return torch.unflatten(cells, 1, (len(boxes), size)).transpose(0, 1)


def _positions(start: Tensor, end: Tensor, count: int) -> Tensor:
    """Return `count` evenly spaced positions (N, count), in the middle of equal parts of [start, end]."""
    middle = (torch.arange(count, dtype=start.dtype) + 0.5) / count
    return start[:, None] + (end - start)[:, None] * middle


def multi_level_roi_align_reference(
    features: Sequence[Tensor],
    rois: Tensor,
    *,
    output_size: int,
    strides: Sequence[int],
    finest_scale: float = FINEST_SCALE,
    sampling_ratio: int = 0,
) -> Tensor:
    """The same as `multi_level_roi_align`, one sample at a time: for reading, and to compare the fast ones with."""
    pooled = torch.zeros(len(rois), features[0].shape[1], output_size, output_size)
    for r, (image, *box) in enumerate(rois.tolist()):
        if image not in range(len(features[0])) or not all(map(math.isfinite, box)):
            continue
        width, height = box[2] - box[0], box[3] - box[1]
        scale = math.sqrt(max(width, 0.0) * max(height, 0.0))
        level = min(max(math.floor(math.log2(scale / finest_scale + 1e-6)), 0), len(features) - 1)
        feature, stride = features[level][int(image)], strides[level]
        x0, y0 = box[0] / stride - 0.5, box[1] / stride - 0.5
        cell_w, cell_h = width / stride / output_size, height / stride / output_size
        across, down = sampling_ratio or math.ceil(cell_w), sampling_ratio or math.ceil(cell_h)
        for i in range(output_size):
            for j in range(output_size):
                samples = [
                    bilinear(feature, y0 + (i + (a + 0.5) / down) * cell_h, x0 + (j + (b + 0.5) / across) * cell_w)
                    for a in range(down)
                    for b in range(across)
                ]
                if samples:
                    pooled[r, :, i, j] = torch.stack(samples).mean(0)
    return pooled


def bilinear(feature: Tensor, y: float, x: float) -> Tensor:
    """Sample `feature` (C, H, W) at a point: 0 more than a cell outside, the border's value just outside. (C,)"""
    height, width = feature.shape[1:]
    if y < -1 or y > height or x < -1 or x > width:
        return torch.zeros(len(feature))
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    upper = feature[:, top, left] * (1 - dx) + feature[:, top, right] * dx
    lower = feature[:, bottom, left] * (1 - dx) + feature[:, bottom, right] * dx
    return upper * (1 - dy) + lower * dy
