"""Quantizes layers of a float16 fixed-size graph to int8 or fp8, by TensorRT's rules.

fp8 is E4M3, with 4 exponent bits and 3 mantissa bits (Micikevicius et al. 2022, arXiv:2209.05433). Zero points are 0,
biases stay in float16, and scales are float16, so that what isn't quantized runs in float16: in a strongly typed
network a dequantized tensor has its scale's type.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from resnest_core.card import ModelCard
from resnest_export.onnx_domain import DOMAIN
from resnest_export.precision import Precision
from resnest_export.quantize import calibrated_ranges, quantized_layers
from resnest_export.tensorrt.graph import runnable

OPSET = 19  # the first whose QuantizeLinear supports float16 and fp8
SMALLEST_SCALE = 2.0**-20
"""float16 represents it within 6 %; weights up to 127 times as large round to nothing that matters."""


@dataclass(frozen=True)
class Kind:
    """An 8-bit type and what is quantized to it.

    Attributes:
        dtype: in NumPy.
        onnx_type: in ONNX.
        largest: its largest value.
        operators: those whose layers are quantized. TensorRT has transposed convolutions in int8, float16 and float32.
        per_channel: whether weights have a scale per output channel. fp8's resolution is relative, so one scale
            suffices, as TensorRT requires.
    """

    dtype: Any
    onnx_type: int
    largest: int
    operators: tuple[str, ...]
    per_channel: bool


KINDS = {
    Precision.INT8: Kind(np.int8, TensorProto.INT8, 127, ("Conv", "Gemm", "ConvTranspose"), True),
    Precision.FP8: Kind(ml_dtypes.float8_e4m3fn, TensorProto.FLOAT8E4M3FN, 448, ("Conv", "Gemm"), False),
}


def quantized_graph(
    graph: onnx.ModelProto, card: ModelCard, precision: Precision, images: Sequence[Path]
) -> onnx.ModelProto:
    """Return a float16 fixed-size graph with layers quantized to int8 or fp8: those that aren't sensitive.

    A layer's input and weights are quantized. All consumers of such an input read it quantized, such as the addition
    of a residual block, which TensorRT then computes together with the convolution before it; but not the custom
    operators.

    Args:
        graph: from `fixed_size_graph`; it isn't changed.
        card: the model's card.
        precision: int8 or fp8.
        images: photographs for calibration.
    """
    kind = KINDS[precision]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "calibration.onnx"
        onnx.save(runnable(graph), path)
        ranges = calibrated_ranges(path, card, images, kind.operators)
    model = copy.deepcopy(graph)
    for opset in model.opset_import:
        if not opset.domain:  # the operators used mean the same in both
            opset.version = max(opset.version, OPSET)
    _Quantizer(model.graph, kind).quantize(ranges)
    return model


class _Quantizer:
    """Adds pairs of QuantizeLinear and DequantizeLinear to a graph, in place."""

    def __init__(self, graph: onnx.GraphProto, kind: Kind) -> None:
        self._graph = graph
        self._kind = kind
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        graph.initializer.append(helper.make_tensor("zero", kind.onnx_type, [], b"\0", raw=True))

    def quantize(self, ranges: dict[str, float]) -> None:
        """Quantize the layers whose inputs have these ranges, largest absolute values by the inputs' names."""
        chosen = set(quantized_layers(self._graph, self._kind.operators))
        layers = [node for node in self._graph.node if node.name in chosen]
        activations = {node.input[0] for node in layers}
        weights = {node.input[1]: node for node in layers}  # a layer of all levels is one of several nodes
        nodes = [self._quantize_weights(name, node) for name, node in weights.items()]
        for node in self._graph.node:
            if node.domain != DOMAIN and node.op_type != "Shape":
                for place, name in enumerate(node.input):
                    node.input[place] = f"{name}_dequantized" if name in activations | weights.keys() else name
            nodes.append(node)
            for name in node.output:
                if name in activations:
                    nodes.extend(self._quantize_activation(name, ranges[name]))
        del self._graph.node[:]
        self._graph.node.extend(nodes)

    def _quantize_activation(self, name: str, largest: float) -> list[onnx.NodeProto]:
        scale = self._scale(name, np.asarray(largest))
        return [
            helper.make_node("QuantizeLinear", [name, scale, "zero"], [f"{name}_quantized"], f"{name}_quantize"),
            self._dequantize(name, scale),
        ]

    def _quantize_weights(self, name: str, layer: onnx.NodeProto) -> onnx.NodeProto:
        """Replace the stored weights of a layer by 8-bit ones, and return the node that dequantizes them."""
        weights = numpy_helper.to_array(self._stored[name]).astype(np.float32)
        axis = self._channels_axis(layer)
        others = None if axis is None else tuple(each for each in range(weights.ndim) if each != axis)
        scale = self._scale(name, np.abs(weights).max(others))
        steps = numpy_helper.to_array(self._graph.initializer[-1]).astype(np.float32)
        if axis is not None:
            steps = steps.reshape([-1 if each == axis else 1 for each in range(weights.ndim)])
            zeros = np.zeros(steps.size, self._kind.dtype)
            self._store(f"{name}_zeros", zeros)
        quantized = (weights / steps).clip(-self._kind.largest, self._kind.largest)
        if self._kind.dtype is np.int8:
            quantized = quantized.round()
        self._graph.initializer.remove(self._stored[name])
        self._store(f"{name}_quantized", quantized.astype(self._kind.dtype))
        return self._dequantize(name, scale, axis)

    def _channels_axis(self, layer: onnx.NodeProto) -> int | None:
        """Return the axis of a layer's weights that has a scale each; None: one scale for all weights."""
        if not self._kind.per_channel or layer.op_type == "ConvTranspose":
            return None  # NVIDIA's tools have disagreed on the axis of transposed convolutions
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in layer.attribute}
        assert layer.op_type == "Conv" or attributes.get("transB") == 1
        return 0

    def _dequantize(self, name: str, scale: str, axis: int | None = None) -> onnx.NodeProto:
        inputs = [f"{name}_quantized", scale, "zero" if axis is None else f"{name}_zeros"]
        node = helper.make_node("DequantizeLinear", inputs, [f"{name}_dequantized"], f"{name}_dequantize")
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        return node

    def _scale(self, name: str, largest: NDArray[Any]) -> str:
        """Store the scale of a tensor with these largest absolute values; return its name."""
        scale = np.maximum(largest / self._kind.largest, SMALLEST_SCALE)
        self._store(f"{name}_scale", scale.astype(np.float16))
        return f"{name}_scale"

    def _store(self, name: str, values: NDArray[Any]) -> None:
        tensor = helper.make_tensor(
            name, helper.np_dtype_to_tensor_dtype(values.dtype), values.shape, values.tobytes(), raw=True
        )
        self._graph.initializer.append(tensor)
