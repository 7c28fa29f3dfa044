"""Int8 and 8-bit floats by TensorRT's rules: what the graphs hold, what they find, and that they are built."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.numpy_helper import to_array

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
from resnest_export.tensorrt.graph import runnable, without_bodies
from resnest_export.tensorrt.profiles import profiles
from resnest_export.tensorrt.quantization import LARGEST_FP8, quantize_graph
from resnest_export.tensorrt.unoptimized import UnoptimizedOnnxRuntime
from resnest_export.to_onnx import save_with_card
from tests.export import goldens
from tests.export.tensorrt.conftest import Graphs
from tests.weights import DEMO, REPOSITORY

LOSS = 0.05  # of AP on six photographs, where one object is a twentieth
TYPES = {Precision.INT8: TensorProto.INT8, Precision.FP8: TensorProto.FLOAT8E4M3FN}
CARD = goldens.card("demo")


@pytest.fixture(scope="module", params=TYPES, ids=[precision.value for precision in TYPES])
def precision(request: pytest.FixtureRequest) -> Precision:
    return Precision(request.param)


@pytest.fixture(scope="module")
def path(precision: Precision, graphs: Graphs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(precision.value)
    exact, quantized = folder / "exact.onnx", folder / "quantized.onnx"
    save_with_card(runnable(onnx.load(graphs("demo"))), CARD, exact)
    quantize_graph(exact, quantized, CARD, precision, calibration_images(DEMO / "images"))
    return quantized


@pytest.fixture(scope="module")
def graph(path: Path) -> onnx.ModelProto:
    return without_bodies(onnx.load(path))


def test_zero_points_are_zero_and_of_the_precisions_type(precision: Precision, graph: onnx.ModelProto) -> None:
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    points = [stored[n.input[2]] for n in graph.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(points) > 50
    for point in points:
        assert point.data_type == TYPES[precision]
        assert not to_array(point).astype(np.float32).any()


def test_convolutions_are_quantized_but_for_sensitive_ones(graph: onnx.ModelProto) -> None:
    made_by = {name: node for node in graph.graph.node for name in node.output}
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]
    sensitive = [any(part in node.input[1] for part in SENSITIVE) for node in convolutions]
    assert sensitive.count(False) > 30 and sensitive.count(True) > 0
    for node, is_sensitive in zip(convolutions, sensitive, strict=True):
        for name in node.input[:2]:
            producer = made_by.get(name)
            is_quantized = producer is not None and producer.op_type == "DequantizeLinear"
            assert is_quantized is not is_sensitive, node.input[1]
        assert stored[node.input[2]].data_type == TensorProto.FLOAT  # biases aren't rounded


def test_scales_are_per_channel_in_int8_and_per_tensor_in_fp8(precision: Precision, graph: onnx.ModelProto) -> None:
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    of_weights = [n for n in graph.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in stored]
    assert len(of_weights) > 30
    for node in of_weights:
        weights, scale = to_array(stored[node.input[0]]), to_array(stored[node.input[1]])
        assert scale.size == (len(weights) if precision is Precision.INT8 else 1)
        assert np.abs(weights.astype(np.float32)).max() == (127 if precision is Precision.INT8 else LARGEST_FP8)


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
    convolutions = [line for line in layers if "_conv2d_" in line.partition(",")[0]]
    assert any(f"Datatype: {kind}" in line for line in convolutions)
