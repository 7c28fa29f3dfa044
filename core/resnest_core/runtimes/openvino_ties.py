"""Makes OpenVINO decide as ONNX where scores are equal, or where an overlap equals its threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import openvino
    from openvino import Node, Output

FAR = 1 << 23
"""Beyond every position. OpenVINO computes some int32 operators in float32, which is exact up to twice this."""


def decide_as_onnx(model: openvino.Model) -> None:
    """Change the TopK and NonMaxSuppression operators of a model that was converted from ONNX, in place.

    ONNX's TopK takes the first of equal scores; OpenVINO's promises no order, and its `stable` mode takes up to 900
    times as long. ONNX's NonMaxSuppression suppresses overlaps above the threshold, OpenVINO's also those at it. Of
    equal scores OpenVINO's NonMaxSuppression takes the first, and ONNX's ArgMax is converted to a stable TopK. A TopK
    of lowest scores, or not along the last axis, stays as it is: exported files have none.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() == "TopK" and _is_of_highest_in_rows(node):
            _take_first_of_equals(node)
        elif node.get_type_name() == "NonMaxSuppression":
            _keep_overlaps_at_threshold(node)
    model.validate_nodes_and_infer_types()


def _is_of_highest_in_rows(topk: Node) -> bool:
    attributes, rank = topk.get_attributes(), topk.get_input_partial_shape(0).rank.get_length()
    of_highest = attributes["mode"] == "max" and not attributes["stable"]
    return of_highest and attributes["axis"] in (-1, rank - 1)


def _take_first_of_equals(topk: Node) -> None:
    """Let a TopK of scores (…, N), the highest first, choose and sort equal scores by their positions.

    The k-th score says which scores are chosen: those above it, and the first of those equal to it. A TopK of integers,
    which are equal only where nothing is chosen, finds their positions. Another sorts the chosen scores, and a last one
    the positions within each run of equal scores.
    """
    from openvino import opset13 as op

    used_by = [output.get_target_inputs() for output in topk.outputs()]
    names = [output.get_names() for output in topk.outputs()]
    scores, count = (each.get_source_output() for each in topk.inputs())

    def integer(value: int) -> Node:
        return op.constant(np.int32(value))

    def columns(table: Output, start: int, stop: int) -> Node:
        return op.slice(table, *(op.constant(np.array([value], np.int32)) for value in (start, stop, 1, -1)))

    def best(values: Node, mode: str) -> list[Output]:
        return list(op.topk(values, count, -1, mode, "value", index_element_type="i32").outputs())

    highest = topk.output(0)  # (…, k)
    lowest_chosen = columns(highest, -1, np.iinfo(np.int32).max)  # (…, 1)
    length = op.gather(op.shape_of(scores, "i32"), integer(-1), integer(0))
    positions = op.range(integer(0), length, integer(1), "i32")  # (N,)
    is_equal, is_above = op.equal(scores, lowest_chosen), op.greater(scores, lowest_chosen)
    at_or_below = op.select(is_equal, positions, integer(FAR))
    _, chosen = best(op.select(is_above, op.subtract(positions, integer(FAR)), at_or_below), "min")

    values, places = best(op.gather_elements(scores, chosen, -1), "max")
    before = op.concat([columns(values, 0, 1), columns(values, 0, -1)], -1)
    run = op.cum_sum(op.convert(op.not_equal(values, before), "i32"), integer(-1))  # 0, 0, 1, 2, 2, 2, …
    start = op.multiply(run, op.convert(count, "i32"))
    sorted_places = op.subtract(best(op.add(start, places), "min")[0], start)
    index = op.convert(op.gather_elements(chosen, sorted_places, -1), topk.get_output_element_type(1))

    _name_after(topk, index, known={scores.get_node().get_name(), count.get_node().get_name()})
    for old, new, targets, its_names in zip(topk.outputs(), (values, index.output(0)), used_by, names, strict=True):
        old.set_names(set())
        new.set_names(its_names)
        for target in targets:
            target.replace_source_output(new)


def _name_after(topk: Node, node: Node, known: set[str]) -> None:
    """Name what a node is computed from, back to a TopK and to known nodes, after the TopK, as profiles tell stages."""
    if node.get_name() in known or node.get_name() == topk.get_name():
        return
    known.add(node.get_name())
    node.set_friendly_name(f"{topk.get_friendly_name()}/{node.get_name()}")
    for each in node.inputs():
        _name_after(topk, each.get_source_output().get_node(), known)


def _keep_overlaps_at_threshold(suppression: Node) -> None:
    """Raise the threshold of a NonMaxSuppression to the next float32: at or above that is above the threshold."""
    from openvino import opset13 as op

    threshold = suppression.input(3)
    constant = threshold.get_source_output().get_node()
    above = np.nextafter(constant.get_data().astype(np.float32), np.float32(np.inf))
    # Numbers below the smallest normal one may be taken for 0.
    threshold.replace_source_output(op.constant(np.maximum(above, np.finfo(np.float32).tiny)).output(0))
