"""GPU kernel of `MultiLevelRoIAlign`; the reference implementation is in `resnest_export.ops.roi_align`."""

# ruff: noqa: N803 - compile-time constants are upper case, as is usual in the Triton language
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def multi_level_roi_align(
    f0,
    f1,
    f2,
    f3,
    rois,
    batch,
    h0,
    w0,
    h1,
    w1,
    h2,
    w2,
    h3,
    w3,
    pooled,
    CHANNELS: tl.constexpr,
    SIZE: tl.constexpr,
    STRIDE0: tl.constexpr,
    STRIDE1: tl.constexpr,
    STRIDE2: tl.constexpr,
    STRIDE3: tl.constexpr,
    FINEST_SCALE: tl.constexpr,
    SAMPLING_RATIO: tl.constexpr,
    MAX_SAMPLES: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    BLOCK_CELLS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """Pool one row of output cells of one region, for a block of channels.

    Args:
        f0, f1, f2, f3: maps (B, C, H, W), finest first; with CHANNELS_LAST, (B, H, W, C) in memory.
        rois: float32 (R, 5), image index, x1 y1 x2 y2 in pixels of the image.
        batch, h0 … w3: int32, B, and H and W of each map.
        pooled: output, (R, C, S, S) of the maps' type; with CHANNELS_LAST, (R, S, S, C) in memory.
        BLOCK_CELLS: a power of two that is at least S.

    Grid: (R·S, blocks of channels, 1). The result is 0 for a region with a coordinate that isn't finite, or with an
    image index outside the batch.
    """
    region = tl.program_id(0) // SIZE
    row = tl.program_id(0) % SIZE
    image = tl.load(rois + region * 5)
    x1 = tl.load(rois + region * 5 + 1)
    y1 = tl.load(rois + region * 5 + 2)
    x2 = tl.load(rois + region * 5 + 3)
    y2 = tl.load(rois + region * 5 + 4)
    usable = (image >= 0) & (image < batch) & _finite(x1) & _finite(y1) & _finite(x2) & _finite(y2)

    # Comparisons and IEEE 754 divisions and roots choose the level, so it is the same one as on a CPU.
    area = tl.maximum(x2 - x1, 0.0) * tl.maximum(y2 - y1, 0.0)
    ratio = tl.div_rn(tl.sqrt_rn(area), FINEST_SCALE) + 1e-6
    level = (ratio >= 2).to(tl.int32) + (ratio >= 4).to(tl.int32) + (ratio >= 8).to(tl.int32)
    feature = _of_level(level, f0, f1, f2, f3)
    height = _of_level(level, h0, h1, h2, h3)
    width = _of_level(level, w0, w1, w2, w3)
    stride = _of_level(level, STRIDE0, STRIDE1, STRIDE2, STRIDE3).to(tl.float32)

    left = tl.div_rn(x1, stride) - 0.5
    top = tl.div_rn(y1, stride) - 0.5
    cell_width = tl.div_rn(tl.div_rn(x2, stride) - 0.5 - left, SIZE)
    cell_height = tl.div_rn(tl.div_rn(y2, stride) - 0.5 - top, SIZE)
    across = tl.where(usable, _samples(cell_width, SAMPLING_RATIO, MAX_SAMPLES), 0)
    down = tl.where(usable, _samples(cell_height, SAMPLING_RATIO, MAX_SAMPLES), 0)

    # The axis that is contiguous in memory comes last, so that neighbouring threads read neighbouring values.
    if CHANNELS_LAST:
        cell = tl.arange(0, BLOCK_CELLS)[:, None]
        channel = tl.arange(0, BLOCK_CHANNELS)[None, :]
    else:
        cell = tl.arange(0, BLOCK_CELLS)[None, :]
        channel = tl.arange(0, BLOCK_CHANNELS)[:, None]
    channel += tl.program_id(1) * BLOCK_CHANNELS
    mask = (cell < SIZE) & (channel < CHANNELS)

    plane = height * width
    feature += tl.where(usable, image, 0.0).to(tl.int64) * plane * CHANNELS
    feature += channel if CHANNELS_LAST else channel * plane
    step = CHANNELS if CHANNELS_LAST else 1  # elements between neighbouring positions of a row

    total = tl.zeros(mask.shape, tl.float32)
    for i in range(down):
        y = top + (row * down + i + 0.5) * tl.div_rn(cell_height, down.to(tl.float32))
        if (y >= -1.0) & (y <= height):
            upper, lower, y_weight = _between(y, height)
            for j in range(across):
                x = left + (cell * across + j + 0.5) * tl.div_rn(cell_width, across.to(tl.float32))
                inside = mask & (x >= -1.0) & (x <= width)
                before, after, x_weight = _between(x, width)
                upper_before = tl.load(feature + (upper * width + before) * step, inside, 0.0).to(tl.float32)
                upper_after = tl.load(feature + (upper * width + after) * step, inside, 0.0).to(tl.float32)
                lower_before = tl.load(feature + (lower * width + before) * step, inside, 0.0).to(tl.float32)
                lower_after = tl.load(feature + (lower * width + after) * step, inside, 0.0).to(tl.float32)
                upper_value = upper_before * (1 - x_weight) + upper_after * x_weight
                lower_value = lower_before * (1 - x_weight) + lower_after * x_weight
                total += upper_value * (1 - y_weight) + lower_value * y_weight

    mean = tl.div_rn(total, tl.maximum(down * across, 1).to(tl.float32))
    output_row = region.to(tl.int64) * SIZE * SIZE * CHANNELS
    if CHANNELS_LAST:
        place = output_row + (row * SIZE + cell) * CHANNELS + channel
    else:
        place = output_row + (channel * SIZE + row) * SIZE + cell
    tl.store(pooled + place, mean.to(pooled.dtype.element_ty), mask)


@triton.jit
def _finite(x):
    return tl.abs(x) <= 3.4028234663852886e38


@triton.jit
def _of_level(level, first, second, third, fourth):
    return tl.where(level < 2, tl.where(level == 0, first, second), tl.where(level == 2, third, fourth))


@triton.jit
def _samples(side, SAMPLING_RATIO: tl.constexpr, MAX_SAMPLES: tl.constexpr):
    """Return the number of samples per side of an output cell: by default one per map cell, rounded up."""
    if SAMPLING_RATIO > 0:
        count = SAMPLING_RATIO
    else:
        count = tl.minimum(tl.maximum(tl.ceil(side), 0.0), MAX_SAMPLES).to(tl.int32)
    return count


@triton.jit
def _between(position, count):
    """Return the pixels before and after a position, and the weight of the latter; positions are clamped to the map."""
    position = tl.minimum(tl.maximum(position, 0.0), (count - 1).to(tl.float32))
    before = position.to(tl.int32)
    after = tl.minimum(before + 1, count - 1)
    return before, after, position - before
