"""ONNX functions that choose the first of equal scores with a TopK that promises no order of these.

The keys of the added TopK operators are whole numbers of float32, all different where they are chosen.
"""

# ruff: noqa: N802 - operators have capital letters
from __future__ import annotations

from onnxscript import FLOAT, INT64, script
from onnxscript import opset18 as op
from onnxscript.values import Opset

DOMAIN, VERSION = "resnest.equal_scores", 1
FAR = 1 << 23
"""Beyond every position. Keys are at most this far from 0: float32 has all whole numbers up to twice this."""

functions = Opset(DOMAIN, VERSION)


@script(functions, default_opset=op)
def FirstTopK(scores: FLOAT[...], count: INT64[...], ones: FLOAT[...], later: FLOAT[...], padding: INT64[...]):
    # scores (B, N), k = count (1,); `ones` (c, c), 1 on and above the diagonal, `later` (c, c), 1 below it; c² ≥ k.
    far = op.Constant(value_float=FAR)
    last = op.Constant(value_ints=[-1])
    # Not a number is no score.
    known = op.Where(scores > op.Constant(value_float=-3.4e38), scores, op.Constant(value_float=float("-inf")))
    highest, _ = op.TopK(known, count, axis=1)
    lowest_chosen = op.Slice(highest, last, op.Constant(value_ints=[2147483647]), last)  # (B, 1)
    length = op.Gather(op.Shape(known), op.Constant(value_int=1))
    positions = op.Cast(op.Range(op.Constant(value_int=0), length, op.Constant(value_int=1)), to=1)  # (N,)
    # Chosen are the scores above the k-th, and the first of those equal to it.
    at_or_below = op.Where(op.Equal(known, lowest_chosen), op.Neg(positions), op.Neg(far))
    keys = op.Where(known > lowest_chosen, far - positions, at_or_below)
    _, chosen = op.TopK(keys, count, axis=1)
    # The chosen ones in the order of their scores, then, within each run of equal ones, of their positions: they are in
    # the order of positions now, but those above the k-th score come before those equal to it, as it must be.
    values, places = op.TopK(op.GatherElements(known, chosen, axis=1), count, axis=1)
    zero, one = op.Constant(value_ints=[0]), op.Constant(value_ints=[1])
    before = op.Concat(op.Slice(values, zero, one, last), op.Slice(values, zero, last, last), axis=1)
    differs = op.Cast(op.Not(op.Equal(values, before)), to=1)
    # A cumulative sum as two products of matrices, in rows of c numbers and over the rows: TensorRT's may be a loop.
    side = op.Shape(ones, start=0, end=1)
    table = op.Reshape(op.Pad(differs, padding), op.Concat(last, side, side, axis=0))  # (B, c, c)
    within = op.MatMul(table, ones)
    totals = op.Slice(within, last, op.Constant(value_ints=[2147483647]), last)  # (B, c, 1)
    runs = op.Reshape(within + op.MatMul(later, totals), op.Concat(op.Shape(values, start=0, end=1), last, axis=0))
    start = op.Slice(runs, zero, count, last) * op.Cast(count, to=1)  # (B, k): 0, 0, k, 2·k, 2·k, …
    ordered, _ = op.TopK(op.Neg(start + op.Cast(places, to=1)), count, axis=1)
    index = op.GatherElements(chosen, op.Cast(op.Neg(ordered) - start, to=7), axis=1)
    return values, index


@script(functions, default_opset=op)
def FirstArgMax(scores: FLOAT[...]):
    # scores (R, N); returns (R,)
    last = op.Constant(value_ints=[-1])
    length = op.Gather(op.Shape(scores), op.Constant(value_int=1))
    positions = op.Cast(op.Range(op.Constant(value_int=0), length, op.Constant(value_int=1)), to=1)
    is_highest = op.Equal(scores, op.ReduceMax(scores, last))
    first = op.ReduceMin(op.Where(is_highest, positions, op.Cast(length - 1, to=1)), last, keepdims=0)
    return op.Cast(first, to=7)
