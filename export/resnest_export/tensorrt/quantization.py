"""Quantizes the convolutions of a fixed-size graph to int8 or fp8.

fp8 is E4M3, with 4 exponent bits and 3 mantissa bits (Micikevicius et al. 2022, arXiv:2209.05433).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from resnest_core.card import ModelCard
from resnest_export.precision import Precision
from resnest_export.quantize import TENSORRT, quantize
from resnest_export.to_onnx import save_with_card

LARGEST_INT8, LARGEST_FP8 = 127, 448
OPSET = 19  # the first whose QuantizeLinear supports fp8


def quantize_graph(exact: Path, path: Path, card: ModelCard, precision: Precision, images: Sequence[Path]) -> None:
    """Quantize the graph at `exact`, which `runnable` made, to int8 or fp8 by TensorRT's rules; write it to `path`.

    Args:
        exact: path of the float32 graph.
        path: path of the quantized graph.
        card: the model's card.
        precision: int8 or fp8.
        images: photographs for calibration.
    """
    quantize(exact, path, card, images, TENSORRT)
    if precision is Precision.FP8:
        save_with_card(to_fp8(onnx.load(path), onnx.load(exact)), card, path)


def to_fp8(quantized: onnx.ModelProto, source: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a model from symmetric int8 to fp8.

    Each scale is multiplied by 127/448, the ratio of the largest values of the two types. The resolution of fp8 is
    relative, so one scale per tensor suffices for weights, as TensorRT requires.

    Args:
        quantized: the output of `resnest_export.quantize` with its rules for TensorRT.
        source: the model before quantization, for the unrounded weights.
    """
    model = copy.deepcopy(quantized)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in source.graph.initializer}
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    zero = helper.make_tensor("fp8_zero", TensorProto.FLOAT8E4M3FN, [], b"\0", raw=True)
    stretched: set[str] = set()
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        values, scale, _ = node.input
        node.input[2] = zero.name
        if values in stored:  # weights
            exact = weights[values.removesuffix("_quantized")]
            largest = np.asarray(np.abs(exact).max() / LARGEST_FP8, np.float32)
            stored[scale].CopyFrom(numpy_helper.from_array(largest, scale))
            rounded = (exact / largest).astype(ml_dtypes.float8_e4m3fn)
            stored[values].CopyFrom(
                helper.make_tensor(values, TensorProto.FLOAT8E4M3FN, exact.shape, rounded.tobytes(), raw=True)
            )
            del node.attribute[:]  # the axis of the per-channel scales
        elif scale not in stretched:
            stretched.add(scale)
            factor = np.float32(LARGEST_INT8 / LARGEST_FP8)
            stored[scale].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(stored[scale]) * factor, scale))
    model.graph.initializer.append(zero)
    _remove_unused(model.graph)
    _set_opset(model)
    return model


def _remove_unused(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _set_opset(model: onnx.ModelProto) -> None:
    """Raise the version of the standard operators, which keep their semantics in the newer opset."""
    for imports in (model.opset_import, *(function.opset_import for function in model.functions)):
        for opset in imports:
            if not opset.domain:
                opset.version = max(opset.version, OPSET)
