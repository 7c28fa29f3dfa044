"""Int8 and 8-bit floats by TensorRT's rules: what the graphs hold, what they find, and that they are built."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from onnx.numpy_helper import to_array
from onnx.shape_inference import infer_shapes

from resnest_core.buckets import Buckets
from resnest_core.detector import InProcessDetector
from resnest_core.evaluation import evaluate
from resnest_core.repository import network_path
from resnest_core.runtimes import OnnxRuntime
from resnest_core.runtimes.tensorrt.manifest import Flavour
from resnest_export.precision import Precision
from resnest_export.quantize import SENSITIVE, calibration_images
from resnest_export.tensorrt.build import build_engine
from resnest_export.tensorrt.builder import EngineOptions
from resnest_export.tensorrt.graph import runnable
from resnest_export.tensorrt.profiles import profiles
from resnest_export.tensorrt.quantization import quantized_graph
from resnest_export.tensorrt.unoptimized import UnoptimizedOnnxRuntime
from resnest_export.to_onnx import save_with_card
from tests.export import goldens
from tests.export.tensorrt.conftest import Graphs
from tests.weights import DEMO, REPOSITORY

LOSS = 0.05  # of AP on six photographs, where one object is a twentieth
TYPES = {Precision.INT8: TensorProto.INT8, Precision.FP8: TensorProto.FLOAT8E4M3FN}
CARD = goldens.card("demo")
QUANTIZING = ("QuantizeLinear", "DequantizeLinear")
EXACT = ("rpn_cls_reg", "fc_cls", "fc_reg", ".fc1.", ".fc2.")  # float32 in the float16 network, too


@pytest.fixture(scope="module", params=TYPES, ids=[precision.value for precision in TYPES])
def precision(request: pytest.FixtureRequest) -> Precision:
    return Precision(request.param)


@pytest.fixture(scope="module")
def half(graphs: Graphs) -> onnx.ModelProto:
    return onnx.load(graphs("demo", torch.float16))


@pytest.fixture(scope="module")
def graph(precision: Precision, half: onnx.ModelProto) -> onnx.ModelProto:
    return quantized_graph(half, CARD, precision, calibration_images(DEMO / "images"))


@pytest.fixture(scope="module")
def path(precision: Precision, graph: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp(precision.value) / "quantized.onnx"
    save_with_card(runnable(graph), CARD, file)
    return file


def test_zero_points_are_zero_and_of_the_precisions_type(precision: Precision, graph: onnx.ModelProto) -> None:
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    points = [stored[n.input[2]] for n in graph.graph.node if n.op_type in QUANTIZING]
    assert len(points) > 50
    for point in points:
        assert point.data_type == TYPES[precision]
        assert not to_array(point).astype(np.float32).any()


def test_layers_are_quantized_but_for_sensitive_ones(precision: Precision, graph: onnx.ModelProto) -> None:
    made_by = {name: node for node in graph.graph.node for name in node.output}
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    layers = [node for node in graph.graph.node if node.op_type in ("Conv", "Gemm", "ConvTranspose")]
    kept = [any(part in node.input[1] for part in SENSITIVE) for node in layers]
    assert kept.count(False) > 40 and kept.count(True) > 0
    assert {node.op_type for node in layers} == {"Conv", "Gemm", "ConvTranspose"}
    for node, is_kept in zip(layers, kept, strict=True):
        if node.op_type == "ConvTranspose" and precision is Precision.FP8:  # TensorRT has none
            is_kept = True
        for name in node.input[:2]:
            producer = made_by.get(name)
            is_quantized = producer is not None and producer.op_type == "DequantizeLinear"
            assert is_quantized is not is_kept, node.input[1]
        is_exact = any(part in node.input[1] for part in EXACT)
        assert stored[node.input[2]].data_type == (TensorProto.FLOAT if is_exact else TensorProto.FLOAT16), node.name


def test_what_is_not_quantized_is_of_the_float16_networks_types(half: onnx.ModelProto, graph: onnx.ModelProto) -> None:
    types, expected = (
        {value.name: value.type.tensor_type.elem_type for value in infer_shapes(model).graph.value_info}
        for model in (graph, half)
    )
    assert {name: types[name] for name in expected} == expected
    scales = {node.input[1] for node in graph.graph.node if node.op_type in QUANTIZING}
    assert {tensor.data_type for tensor in graph.graph.initializer if tensor.name in scales} == {TensorProto.FLOAT16}
    assert {types[node.output[0]] for node in graph.graph.node if node.op_type == "DequantizeLinear"} == {
        TensorProto.FLOAT16
    }


def test_every_reader_of_a_quantized_tensor_reads_it_quantized(graph: onnx.ModelProto) -> None:
    quantized = {node.input[0] for node in graph.graph.node if node.op_type == "QuantizeLinear"}
    readers = [node for node in graph.graph.node if quantized.intersection(node.input)]
    assert {node.op_type for node in readers} == {"QuantizeLinear", "MultiLevelRoIAlign"}
    # The sum at the end of a residual block, whose convolution TensorRT then computes together with it.
    sums = [node for node in graph.graph.node if node.op_type == "Add" and any("relu" in name for name in node.input)]
    assert all(any(name.endswith("_dequantized") for name in node.input) for node in sums)


def test_scales_are_per_channel_in_int8_and_per_tensor_in_fp8(precision: Precision, graph: onnx.ModelProto) -> None:
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    of_weights = [n for n in graph.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in stored]
    assert len(of_weights) > 40
    for node in of_weights:
        weights, scale = to_array(stored[node.input[0]]), to_array(stored[node.input[1]])
        per_channel = precision is Precision.INT8 and "upsample" not in node.name
        assert scale.size == (len(weights) if per_channel else 1)
        largest = np.abs(weights.astype(np.float32)).max()
        assert largest == (127 if precision is Precision.INT8 else 448)


def test_weights_are_those_of_the_float16_network_within_half_a_step(
    precision: Precision, half: onnx.ModelProto, graph: onnx.ModelProto
) -> None:
    exact = {tensor.name: to_array(tensor).astype(np.float32) for tensor in half.graph.initializer}
    stored = {tensor.name: to_array(tensor).astype(np.float32) for tensor in graph.graph.initializer}
    for name in (name.removesuffix("_quantized") for name in stored if name.endswith("_quantized")):
        scale = stored[f"{name}_scale"].reshape(-1, *[1] * (exact[name].ndim - 1))
        weights = exact[name] / scale
        step = (
            1.0
            if precision is Precision.INT8
            else np.maximum(2.0 ** (np.floor(np.log2(np.abs(weights) + 1e-9)) - 3), 2**-9)
        )
        assert (np.abs(stored[f"{name}_quantized"] - weights) <= 0.51 * step).all(), name


def test_average_precision_is_nearly_that_of_float32(precision: Precision, path: Path) -> None:
    runtime = OnnxRuntime if precision is Precision.INT8 else UnoptimizedOnnxRuntime
    with (
        InProcessDetector(OnnxRuntime.load(network_path(REPOSITORY, "demo"))) as exact,
        InProcessDetector(runtime.load(path)) as quantized,
    ):
        before, after = (evaluate(each, DEMO / "instances.json", DEMO / "images") for each in (exact, quantized))
    for kind in ("bbox", "segm"):
        ap, was = after[kind]["AP"], before[kind]["AP"]
        print(f"{precision.value}: {kind} AP {ap:.4f}, {was:.4f} in fp32")
        assert ap is not None and was is not None and was - ap <= LOSS


@pytest.mark.rtx
def test_tensorrt_rtx_builds_it(precision: Precision, graph: onnx.ModelProto, tmp_path: Path) -> None:
    beside = tmp_path / "model.onnx"
    beside.write_bytes(b"the network for CPUs")
    options = EngineOptions(profiles(CARD, Buckets.LANDSCAPE_PORTRAIT, 1)[:1], Flavour.RTX, ("8.9",))
    layers = build_engine(graph, beside, CARD, options).layers
    kind = {Precision.INT8: "Int8", Precision.FP8: "FP8"}[precision]
    for name in ("_conv2d_", "node_linear_myl"):
        assert any(f"Datatype: {kind}" in line for line in layers if name in line.partition(",")[0]), name
    # In float32 are split attention's two small layers of four blocks, and the RPN's last layers on five levels.
    float32 = re.compile(r"LayerType: correlation, Inputs: \[ \{[^{}]*Datatype: Float,")
    assert sum(float32.search(line) is not None for line in layers) == 2 * 4 + 5
