"""GPU kernel of `BatchedNMS`; the reference implementation is in `resnest_export.ops.nms`."""

# ruff: noqa: N803 - compile-time constants are upper case, as is usual in the Triton language
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def batched_nms(
    boxes,
    scores,
    groups,
    candidates,
    indices,
    num,
    IOU_THRESHOLD: tl.constexpr,
    MAX_OUTPUT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Greedy NMS of one image: all boxes stay in registers, and each kept box suppresses the others in one pass.

    Each box has an integer key that is smaller for a better box, so the next box to keep is a minimum of integers,
    which a warp finds with one instruction. If the scores are sorted, as TopK returns them, the order of the keys is
    that of the boxes; otherwise all pairs of scores are compared once.

    Args:
        boxes: float32 (B, M, 4), x1 y1 x2 y2.
        scores: float32 (B, M).
        groups: int32 (B, M); boxes of different groups don't suppress each other.
        candidates: int32, M.
        indices: output, int32 (B, K), best score first, lowest index first for equal scores; −1 after the last.
        num: output, int32 (B, 1), number of boxes kept.
        BLOCK: a power of two that is at least M.

    Grid: (B, 1, 1). A box is ignored if its score is −∞ or NaN, or if a coordinate isn't finite.
    """
    image = tl.program_id(0).to(tl.int64)
    boxes += image * candidates * 4
    scores += image * candidates
    groups += image * candidates
    indices += image * MAX_OUTPUT

    place = tl.arange(0, BLOCK)
    present = place < candidates
    nothing = float("-inf")
    score = tl.load(scores + place, present, nothing)
    x1 = tl.load(boxes + place * 4, present, 0.0)
    y1 = tl.load(boxes + place * 4 + 1, present, 0.0)
    x2 = tl.load(boxes + place * 4 + 2, present, 0.0)
    y2 = tl.load(boxes + place * 4 + 3, present, 0.0)
    known = (score > nothing) & _finite(x1) & _finite(y1) & _finite(x2) & _finite(y2)

    rank = place
    lowest_yet = tl.associative_scan(tl.where(known, score, float("inf")), 0, _lower)
    unsorted = (known & (score > lowest_yet)).to(tl.int32)
    if tl.max(unsorted, 0) > 0:
        rank = tl.zeros_like(place)
        for other in range(candidates):
            value = tl.load(scores + other)
            rank += ((value > score) | ((value == score) & (other < place))).to(tl.int32)
    # The index in the lower digits: the smallest key names its box.
    key = tl.where(known, rank * BLOCK + place, BLOCK * BLOCK)

    # Groups are offset in float32, as in the reference's `apart`: ignored boxes count as 0, 0, 0, 0.
    right = tl.where(known, tl.maximum(tl.maximum(x1, x2), tl.maximum(y1, y2)), 0.0)
    left = tl.where(known, tl.minimum(tl.minimum(x1, x2), tl.minimum(y1, y2)), 0.0)
    extent = tl.max(tl.where(present, right, nothing), 0) - tl.min(left, 0) + 1.0
    shift = tl.load(groups + place, present, 0).to(tl.float32) * extent
    x1 += shift
    y1 += shift
    x2 += shift
    y2 += shift
    area = (x2 - x1) * (y2 - y1)

    kept = 0
    best = tl.min(key, 0)
    while (best < BLOCK * BLOCK) & (kept < MAX_OUTPUT):
        pick = best % BLOCK
        tl.store(indices + kept, pick)
        kept += 1
        # All threads load the same address: this is cheaper than a reduction that finds the thread with the box.
        pick_shift = tl.load(groups + pick).to(tl.float32) * extent
        pick_x1 = tl.load(boxes + pick * 4) + pick_shift
        pick_y1 = tl.load(boxes + pick * 4 + 1) + pick_shift
        pick_x2 = tl.load(boxes + pick * 4 + 2) + pick_shift
        pick_y2 = tl.load(boxes + pick * 4 + 3) + pick_shift
        pick_area = (pick_x2 - pick_x1) * (pick_y2 - pick_y1)
        overlap_x = tl.maximum(tl.minimum(x2, pick_x2) - tl.maximum(x1, pick_x1), 0.0)
        overlap_y = tl.maximum(tl.minimum(y2, pick_y2) - tl.maximum(y1, pick_y1), 0.0)
        intersection = overlap_x * overlap_y
        # IEEE 754 rounding in this order makes every decision at the threshold equal to the reference's.
        # Two empty boxes give NaN, which isn't above the threshold.
        overlaps = tl.div_rn(intersection, area + pick_area - intersection) > IOU_THRESHOLD
        key = tl.where(overlaps | (place == pick), BLOCK * BLOCK, key)
        best = tl.min(key, 0)

    rest = tl.arange(0, triton.next_power_of_2(MAX_OUTPUT))
    tl.store(indices + rest, -1, (rest >= kept) & (rest < MAX_OUTPUT))
    tl.store(num + image, kept)


@triton.jit
def _lower(x, y):
    return tl.minimum(x, y)


@triton.jit
def _finite(x):
    return tl.abs(x) <= 3.4028234663852886e38
