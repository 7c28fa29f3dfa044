"""Makes TopK and ArgMax take the first of equal scores, as ONNX defines them: TensorRT promises no order of these."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.inliner import inline_selected_functions

from resnest_export.tensorrt.equal_scores_functions import DOMAIN, VERSION, FirstArgMax, FirstTopK


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
    model.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
    bodies = (FirstTopK, FirstArgMax)
    model.functions.extend(body.to_function_proto() for body in bodies)
    model.CopyFrom(inline_selected_functions(model, [(DOMAIN, body.name) for body in bodies]))
    model.opset_import.remove(next(opset for opset in model.opset_import if opset.domain == DOMAIN))


def _tables(count: int, name: str) -> list[onnx.TensorProto]:
    """Return the constant inputs of FirstTopK for `count` scores, with names that begin with `name`."""
    side = math.ceil(math.sqrt(count))
    ones = np.ones((side, side), np.float32)
    tables = {"ones": np.triu(ones), "later": np.tril(ones, -1), "padding": np.array([0, 0, 0, side**2 - count])}
    return [numpy_helper.from_array(table, f"{name}_{what}") for what, table in tables.items()]


def _call(body: Any, inputs: Iterable[str], node: onnx.NodeProto) -> onnx.NodeProto:
    return helper.make_node(body.name, list(inputs), list(node.output), node.name, domain=DOMAIN)
