"""The ONNX graph for TensorRT: fixed sizes, explicit types, custom operators mapped to plugins."""

from __future__ import annotations

import copy
from collections import Counter

import onnx
import torch
from onnx import TensorProto, helper

from resnest_core import tensors
from resnest_core.card import ModelCard
from resnest_export.batch_norm_folding import fold_batch_norm
from resnest_export.deployed_detector import DeployedDetector
from resnest_export.kernels.contracts import ROI_ALIGN
from resnest_export.models.detector import TwoStageDetector
from resnest_export.onnx_domain import DOMAIN, VERSION
from resnest_export.ops.functions import function_bodies
from resnest_export.tensorrt.equal_scores import take_first_of_equals
from resnest_export.tensorrt.fixed_size import FixedSizeDetector
from resnest_export.tensorrt.half_precision import use_half
from resnest_export.tensorrt.merged_rpn import MergedRPN
from resnest_export.tensorrt.plain_convolutions import use_plain_convolutions
from resnest_export.to_onnx import trace

LOOKUP: dict[str, str | int] = {"plugin_namespace": DOMAIN, "plugin_version": str(VERSION), "aot": 1}
"""Attributes by which TensorRT looks up a plugin. `aot` selects the ahead-of-time plugins of
`resnest_export.tensorrt.plugins_aot`; TensorRT-RTX ignores it."""
HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def fixed_size_graph(
    detector: TwoStageDetector, card: ModelCard, dtype: torch.dtype = torch.float32
) -> onnx.ModelProto:
    """Return the graph of `detector` for TensorRT: batch, height and width are dynamic, all other sizes fixed.

    Its tensors are those of `resnest_core.tensors`. The custom operators have no function bodies, because TensorRT
    would inline these instead of using the plugins; their attributes name the plugins. Batch norms are folded, no
    convolution has groups, and of equal scores the first is taken as in ONNX, which TensorRT doesn't promise.

    Args:
        detector: an unmodified float32 detector; it isn't changed.
        card: the model's card.
        dtype: float32, or a 16-bit type for the parts listed in `resnest_export.tensorrt.half_precision`.
    """
    model = trace(DeployedDetector(fixed_size_network(detector, dtype), card), card)
    take_shapes_after_cast(model.graph)
    take_first_of_equals(model)
    name_plugins(model.graph)
    return model


def fixed_size_network(detector: TwoStageDetector, dtype: torch.dtype = torch.float32) -> FixedSizeDetector:
    """Return what `fixed_size_graph` traces: `detector` with fixed sizes and the layers that suit TensorRT."""
    detector = copy.deepcopy(detector)
    fold_batch_norm(detector)
    use_plain_convolutions(detector)
    detector.rpn_head = MergedRPN(detector.rpn_head)
    if dtype is not torch.float32:
        use_half(detector, dtype)
    return FixedSizeDetector(detector)


def take_shapes_after_cast(graph: onnx.GraphProto) -> None:
    """Let the uint8 input have one reader, its cast: TensorRT wants no other operators on this type."""
    cast = next(node for node in graph.node if node.op_type == "Cast" and tensors.IMAGES in node.input)
    for node in graph.node:
        if node.op_type == "Shape" and tensors.IMAGES in node.input:
            node.input[0] = cast.output[0]
    nodes = [cast, *(node for node in graph.node if node is not cast)]
    del graph.node[:]
    graph.node.extend(nodes)


def name_plugins(graph: onnx.GraphProto) -> None:
    """Give the custom operators' nodes readable names and the attributes by which TensorRT looks up plugins."""
    count: Counter[str] = Counter()
    for node in custom_nodes(graph):
        node.name = f"{node.op_type}_{count[node.op_type]}"
        count[node.op_type] += 1
        node.attribute.extend(helper.make_attribute(name, value) for name, value in LOOKUP.items())


def custom_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes of the operators of domain `resnest`."""
    return [node for node in graph.node if node.domain == DOMAIN]


def runnable(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a fixed-size graph that any runtime can run, for comparison and calibration on a CPU.

    The operators get function bodies, which support float32 only: 16-bit maps are cast to float32 first.
    """
    model = copy.deepcopy(model)
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.domain == DOMAIN:
            kept = [attribute for attribute in node.attribute if attribute.name not in LOOKUP]
            del node.attribute[:]
            node.attribute.extend(kept)
        of_maps = types.get(node.input[0]) if node.op_type == ROI_ALIGN.name else None
        nodes.extend(_in_float32(node, of_maps) if of_maps is not None and of_maps in HALF else [node])
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.functions.extend(function_bodies())
    (version,) = (opset.version for opset in model.opset_import if not opset.domain)
    for function in model.functions:
        for opset in function.opset_import:
            opset.version = opset.version if opset.domain else version
    return model


def _in_float32(node: onnx.NodeProto, dtype: int) -> list[onnx.NodeProto]:
    """Return nodes that compute a RoIAlign of `dtype` in float32, with casts before and after."""
    *maps, _ = node.input
    name = node.name
    before = [
        helper.make_node("Cast", [level], [f"{name}_in{i}"], f"{name}_cast{i}", to=TensorProto.FLOAT)
        for i, level in enumerate(maps)
    ]
    after = helper.make_node("Cast", [f"{name}_out"], list(node.output), f"{name}_cast_back", to=dtype)
    for i in range(len(maps)):
        node.input[i] = f"{name}_in{i}"
    node.output[0] = f"{name}_out"
    return [*before, node, after]
