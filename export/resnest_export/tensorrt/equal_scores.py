"""Makes TopK and ArgMax take the first of equal scores, as ONNX defines them: TensorRT promises no order of these.

The keys of the added TopK operators are whole numbers of float32, all different where they are chosen.
"""

# ruff: noqa: N802 - operators have capital letters
from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.inliner import inline_selected_functions
from onnxscript import FLOAT, INT64, OnnxFunction, script
from onnxscript import opset18 as op
from onnxscript.values import Opset

DOMAIN = "resnest.equal_scores"
FAR = 1 << 23
"""Beyond every position. Keys are at most this far from 0: float32 represents whole numbers exactly up to twice this."""

functions = Opset(DOMAIN, 1)


@script(functions, default_opset=op)
def FirstTopK(scores: FLOAT[...], count: INT64[1], ones: FLOAT[...], later: FLOAT[...], padding: INT64[4]):
    # scores (B, N), k = count. `ones` (c, c) has ones on and above the diagonal, `later` (c, c) ones below it; c² ≥ k.
    far = op.Constant(value_float=8388608.0)
    last = op.Constant(value_ints=[-1])
    # Not a number is no score.
    scores = op.Where(scores > op.Constant(value_float=-3.4e38), scores, op.Constant(value_float=float("-inf")))
    highest, _ = op.TopK(scores, count, axis=-1)
    lowest_chosen = op.Slice(highest, last, op.Constant(value_ints=[2147483647]), last)  # (B, 1)
    length = op.Gather(op.Shape(scores), op.Constant(value_int=1))
    positions = op.Cast(op.Range(op.Constant(value_int=0), length, op.Constant(value_int=1)), to=1)  # (N,)
    # Chosen are the scores above the k-th, and the first of those equal to it.
    at_or_below = op.Where(op.Equal(scores, lowest_chosen), op.Neg(positions), op.Neg(far))
    keys = op.Where(scores > lowest_chosen, far - positions, at_or_below)
    _, chosen = op.TopK(keys, count, axis=-1)
    # The chosen ones in the order of their scores, then, within each run of equal ones, of their positions: they are in
    # the order of positions now, but those above the k-th score come before those equal to it, as it must be.
    values, places = op.TopK(op.GatherElements(scores, chosen, axis=-1), count, axis=-1)
    zero, one = op.Constant(value_ints=[0]), op.Constant(value_ints=[1])
    before = op.Concat(op.Slice(values, zero, one, last), op.Slice(values, zero, last, last), axis=-1)
    differs = op.Cast(op.Not(op.Equal(values, before)), to=1)
    # A cumulative sum as two products of matrices, within rows of c numbers and over the rows: TensorRT's may be a loop.
    side = op.Shape(ones, start=0, end=1)
    table = op.Reshape(op.Pad(differs, padding), op.Concat(last, side, side, axis=0))  # (B, c, c)
    within = op.MatMul(table, ones)
    totals = op.Slice(within, last, op.Constant(value_ints=[2147483647]), last)  # (B, c, 1)
    runs = op.Reshape(within + op.MatMul(later, totals), op.Concat(op.Shape(values, start=0, end=1), last, axis=0))
    start = op.Slice(runs, zero, count, last) * op.Cast(count, to=1)  # (B, k): 0, 0, k, 2·k, 2·k, …
    ordered, _ = op.TopK(op.Neg(start + op.Cast(places, to=1)), count, axis=-1)
    index = op.GatherElements(chosen, op.Cast(op.Neg(ordered) - start, to=7), axis=-1)
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


def take_first_of_equals(model: onnx.ModelProto) -> None:
    """Replace, in place, each TopK of rows (B, N) and each ArgMax of rows (R, N) by operators that order equal scores.

    Scores that aren't numbers count as −inf.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        called = node
        if node.op_type == "TopK":
            assert attributes.get("axis", -1) in (-1, 1) and attributes.get("largest", 1)
            tables = _tables(int(constants[node.input[1]].item()), node.output[1])
            model.graph.initializer.extend(tables)
            called = _call(FirstTopK, [*node.input, *(table.name for table in tables)], node)
        elif node.op_type == "ArgMax":
            assert attributes.get("axis", 0) in (-1, 1) and not attributes.get("keepdims", 1)
            called = _call(FirstArgMax, node.input, node)
        nodes.append(called)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.opset_import.append(helper.make_opsetid(DOMAIN, functions.version))
    bodies = (FirstTopK, FirstArgMax)
    model.functions.extend(body.to_function_proto() for body in bodies)
    model.CopyFrom(inline_selected_functions(model, [(DOMAIN, body.name) for body in bodies]))


def _tables(count: int, name: str) -> list[onnx.TensorProto]:
    """Return the constant inputs of FirstTopK for `count` scores, with names that begin with `name`."""
    side = math.ceil(math.sqrt(count))
    ones = np.ones((side, side), np.float32)
    tables = {"ones": np.triu(ones), "later": np.tril(ones, -1), "padding": np.array([0, 0, 0, side**2 - count])}
    return [numpy_helper.from_array(table, f"{name}_{what}") for what, table in tables.items()]


def _call(body: OnnxFunction, inputs: Iterable[str], node: onnx.NodeProto) -> onnx.NodeProto:
    return helper.make_node(body.name, list(inputs), list(node.output), node.name, domain=DOMAIN)
