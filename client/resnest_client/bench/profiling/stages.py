"""Assigns the nodes of a detector's ONNX graph, and the operators reported by runtimes, to stages.

A node that uses a weight belongs to the stage given by the weight's name; any other node belongs to the stage of its
latest input. Top-k, RoIAlign and NMS start separate stages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resnest_client.bench.profiling.operators import Operator

if TYPE_CHECKING:
    import onnx

BACKBONE, FPN, RPN, PROPOSALS = "backbone", "FPN", "RPN", "proposals"
BOX_ROIS, BOX_HEAD, NMS = "box RoIAlign", "box head", "NMS"
MASK_ROIS, MASK_HEAD = "mask RoIAlign", "mask head"
NETWORK = (BACKBONE, FPN, RPN, PROPOSALS, BOX_ROIS, BOX_HEAD, NMS, MASK_ROIS, MASK_HEAD)
OF_MASKS = (MASK_ROIS, MASK_HEAD)

WEIGHTS = {
    "detector.backbone.": BACKBONE,
    "detector.neck.": FPN,
    "detector.rpn_head.": RPN,
    "detector.roi_head.bbox_head.": BOX_HEAD,
    "detector.roi_head.mask_head.": MASK_HEAD,
}
HEAD_AFTER = {BOX_ROIS: BOX_HEAD, MASK_ROIS: MASK_HEAD}
ROI_ALIGN = ("MultiLevelRoIAlign", "RoiAlign")
SUPPRESSION = ("BatchedNMS", "NonMaxSuppression")
OF_POOLING = ("Concat", "Gather")  # they put the levels' regions together, where RoIAlign is in standard operators


@dataclass(frozen=True)
class Graph:
    """A network with inlined functions, and the stages of its nodes.

    Attributes:
        model: the copy with its functions inlined.
        nodes: stage by node's name.
        names: node's name by that name or the name of what it computes.
        constant: names of nodes that don't depend on the image, which runtimes compute once, when they load.
        winograd: whether the heads' convolutions are products of transformed tiles.
    """

    model: onnx.ModelProto
    nodes: dict[str, str]
    names: dict[str, str]
    constant: frozenset[str]
    winograd: bool

    def node_of(self, operator: str) -> str | None:
        """Return the name of the node that an operator computes, by the runtime's name of it; None: unknown.

        Runtimes name a fused operator after one of its parts, with a prefix or suffix: `relu_1_nchwc`,
        `fused node_linear`, `node_conv2d_1/WithoutBiases`, and `node_view_acdb_abcd_node_sum` for a layout conversion
        between two operators.
        """
        operator = operator.removeprefix("fused ")
        if operator in self.names:
            return self.names[operator]
        ends = [match.start() for match in re.finditer(r"[^0-9A-Za-z]", operator)]
        return next((self.names[operator[:end]] for end in reversed(ends) if operator[:end] in self.names), None)

    def nodes_of(self, operator: Operator) -> list[str]:
        """Return the names of the nodes that an operator and those that were fused into it compute."""
        return [node for name in (operator.name, *operator.parts) if (node := self.node_of(name)) is not None]

    def stage_of(self, operator: Operator) -> str | None:
        """Return the stage of an operator; None: neither its name nor those of its parts tell one."""
        return next((self.nodes[node] for node in self.nodes_of(operator)), None)


def read_graph(model: onnx.ModelProto) -> Graph:
    """Inline a model's functions and find each node's stage."""
    from onnx.inliner import inline_local_functions

    plain = inline_local_functions(model)
    nodes = list(plain.graph.node)
    stages = _inlined(nodes, model.graph.node, _stages(model.graph))
    names: dict[str, str] = {}
    for node in nodes:
        names.update(dict.fromkeys(filter(None, (*node.output, node.name)), node.name))
    constant = frozenset(_constant(plain.graph))
    heavy = {
        node.op_type
        for node, stage in zip(nodes, stages, strict=True)
        if stage == BOX_HEAD and node.name not in constant
    }
    return Graph(
        plain,
        {node.name: stage for node, stage in zip(nodes, stages, strict=True)},
        names,
        constant,
        winograd="MatMul" in heavy and not any("Conv" in kind for kind in heavy),
    )


def _stages(graph: onnx.GraphProto) -> list[str]:
    """Return each node's stage. What precedes the backbone, such as normalising, is counted with it."""
    weights = {
        each.name: stage
        for each in graph.initializer
        for prefix, stage in WEIGHTS.items()
        if each.name.startswith(prefix)
    }
    constant = frozenset(_constant(graph))
    came_from: dict[str, tuple[int, str]] = {}  # of a value: where its stage began, and the stage
    stages = []
    for place, node in enumerate(graph.node):
        latest = max((came_from[name] for name in node.input if name in came_from), default=(-1, BACKBONE))
        begun = _begun(node, latest[1], weights)
        if begun is not None and node.name in constant:  # weights that are made of others, as int8's are
            weights.update(dict.fromkeys(node.output, begun))
        mark = latest if begun is None else (place, begun)
        came_from.update(dict.fromkeys(node.output, mark))
        stages.append(mark[1])
    return stages


def _begun(node: onnx.NodeProto, before: str, weights: dict[str, str]) -> str | None:
    """Return the stage that a node begins, or goes on with, by itself; None: the one before."""
    of_weights = [weights[name] for name in node.input if name in weights]
    if of_weights:
        return of_weights[-1]
    if node.op_type in ROI_ALIGN:
        return MASK_ROIS if before in (NMS, MASK_ROIS, MASK_HEAD) else BOX_ROIS
    if before in HEAD_AFTER and node.op_type not in OF_POOLING:
        return HEAD_AFTER[before]
    if node.op_type == "TopK" and before == RPN:
        return PROPOSALS
    if node.op_type in SUPPRESSION:
        return PROPOSALS if before in (RPN, PROPOSALS) else NMS
    return None


def _inlined(nodes: Iterable[onnx.NodeProto], calls: Sequence[onnx.NodeProto], stages: list[str]) -> list[str]:
    """Return the stages of the inlined nodes: what a function consists of stands where it was called."""
    places = {tuple(node.output): place for place, node in enumerate(calls)}
    functions = [place for place, node in enumerate(calls) if node.domain not in ("", "ai.onnx")]
    last, found = -1, []
    for node in nodes:
        place = places.get(tuple(node.output))
        if place is None:
            within = next((function for function in functions if function > last), None)
            found.append(stages[max(last, 0) if within is None else within])
        else:
            last = place
            found.append(stages[place])
    return found


def _constant(graph: onnx.GraphProto) -> Iterable[str]:
    """Yield the names of nodes that read weights and constants only."""
    known = {each.name for each in graph.initializer}
    for node in graph.node:
        if all(name in known for name in node.input if name):
            known.update(node.output)
            yield node.name
