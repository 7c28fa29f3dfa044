"""Whole detectors built by TensorRT-RTX with our plugins, for a GPU that isn't here; and what can't be built."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch

from resnest_core.buckets import Buckets
from resnest_core.errors import InvalidModelError, MissingExtraError, ParameterError, RuntimeUnavailableError
from resnest_core.runtimes.tensorrt.cuda import Cuda, Gpu
from resnest_core.runtimes.tensorrt.manifest import EngineManifest, Flavour, HardwareCompatibility, manifest_path
from resnest_export.kernels.compiling import kernels_sha256
from resnest_export.tensorrt import build
from resnest_export.tensorrt.build import Built, build_engine
from resnest_export.tensorrt.builder import EngineOptions
from resnest_export.tensorrt.graph import custom_nodes
from resnest_export.tensorrt.profiles import profiles
from tests.export import goldens
from tests.export.tensorrt.conftest import Graphs

DETECTORS = {"demo": 4, "mask_rcnn_s50": 4, "cascade_rcnn_s50": 5}  # and the nodes of ours in each
CARD = goldens.card("demo")
RTX = EngineOptions(profiles(CARD, Buckets.RATIOS, 1), Flavour.RTX, ("8.9",))


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """The ordinary file that an engine lies beside."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the network for CPUs")
    return path


@pytest.mark.rtx
@pytest.mark.parametrize("name", DETECTORS)
def test_a_whole_detector_is_built_with_our_plugins(name: str, graphs: Graphs, beside: Path) -> None:
    graph, card = onnx.load(graphs(name)), goldens.card(name)
    assert not {"NonZero", "NonMaxSuppression", "RoiAlign"}.intersection(node.op_type for node in graph.graph.node)
    cache = beside.with_name("timings") if name == "demo" else None
    wanted = replace(RTX, profiles=profiles(card, Buckets.RATIOS, 2)[:2], timing_cache=cache)
    built = build_engine(graph, beside, card, wanted)
    ours = {node.name for node in custom_nodes(graph.graph)}
    assert len(ours) == DETECTORS[name]
    for layer in ours:
        listed = [line for line in built.layers if re.match(rf"Name: {layer}[ _]", line)]
        assert len(listed) == len(wanted.profiles), layer
        assert all("LayerType: custom_layer" in line for line in listed)
    plan = beside.with_name("model.plan")
    manifest = EngineManifest.read(manifest_path(plan))
    manifest.check_files(plan)
    assert (manifest.tensorrt_version, manifest.gpu_name) == (built.version, None)
    assert manifest.profiles == wanted.profiles
    assert manifest.kernels_sha256 == kernels_sha256()
    written = {path.name for path in beside.parent.iterdir()} - {"timings"}
    assert written == {"model.onnx", "model.plan", "model.plan.json"}
    assert cache is None or cache.is_file()


@pytest.mark.rtx
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
def test_a_detector_of_16_bits_is_built(dtype: torch.dtype, graphs: Graphs, beside: Path) -> None:
    layers = build_engine(
        onnx.load(graphs("demo", dtype)), beside, CARD, replace(RTX, profiles=RTX.profiles[:1])
    ).layers
    kind = {torch.float16: "Half", torch.bfloat16: "BFloat16"}[dtype]
    inputs = [
        found[1] for line in layers if (found := re.search(r"correlation, Inputs: \[ \{[^{}]*Datatype: (\w+)", line))
    ]
    assert inputs.count(kind) > 40
    # In float32 are split attention's two small layers of four blocks, and the RPN's last layers on five levels.
    assert inputs.count("Float") == 2 * 4 + 5


@pytest.mark.rtx
def test_a_network_without_our_operators_is_refused(beside: Path) -> None:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["image_sizes"], ["y"])],
        "other",
        [value("image_sizes", onnx.TensorProto.FLOAT, ["batch", 2])],
        [value("y", onnx.TensorProto.FLOAT, ["batch", 2])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(InvalidModelError, match="none of the resnest operators: make it with `resnest export`"):
        build_engine(model, beside, CARD, RTX)


@pytest.mark.rtx
def test_a_node_that_tensorrt_does_not_know_is_named(beside: Path) -> None:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Strange", ["x"], ["x2"], "the_node", domain="elsewhere")
    graph = onnx.helper.make_graph([node], "strange", [value], [])
    graph.output.append(onnx.helper.make_tensor_value_info("x2", onnx.TensorProto.FLOAT, [1]))
    model = onnx.helper.make_model(graph, ir_version=10)
    with pytest.raises(InvalidModelError, match=r"TensorRT-RTX .* can't read node 'the_node' \(Strange\)"):
        build_engine(model, beside, CARD, RTX)


@pytest.mark.rtx
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (replace(RTX, compute_capabilities=("9.9",)), "nothing for compute capability 9.9: use one of .*8.9"),
        (
            replace(RTX, hardware_compatibility=HardwareCompatibility.AMPERE_PLUS),
            "has no hardware-compatible engines",
        ),
    ],
)
def test_what_tensorrt_rtx_can_not_build_is_told(
    options: EngineOptions, words: str, graphs: Graphs, beside: Path
) -> None:
    plan = beside.with_name("model.plan")
    plan.write_bytes(b"an engine of before")
    with pytest.raises(ParameterError, match=words):
        build_engine(onnx.load(graphs("demo")), beside, CARD, options)
    assert plan.read_bytes() == b"an engine of before"
    assert len(list(beside.parent.iterdir())) == 2


def crash(*_: object) -> Built:
    """Stand for a builder that takes its process along."""
    os.abort()


@pytest.mark.rtx
def test_a_crash_is_told_and_takes_nothing_along(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_build", crash)
    with pytest.raises(RuntimeUnavailableError, match="TensorRT-RTX crashed while it built the engine"):
        build_engine(onnx.ModelProto(), beside, CARD, RTX)
    assert [path.name for path in beside.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("precision", "capability", "words"),
    [
        ("fp8", "8.6", r"8.6 have no fp8, only from 8.9 on: use --precision int8 or fp16"),
        ("fp32", "7.5", r"7.5 is too old: engines need 8.0 or later"),
    ],
)
def test_a_precision_that_the_gpu_has_not(precision: str, capability: str, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        build.check_precision(precision, capability)
    build.check_precision(precision, "8.9")


@pytest.mark.parametrize(
    ("absent", "flavour", "extra"),
    [
        ("tensorrt", Flavour.TENSORRT, "tensorrt"),
        ("tensorrt_rtx", Flavour.RTX, "rtx"),
        ("triton", Flavour.TENSORRT, "tensorrt"),
    ],
)
def test_a_missing_package_names_its_extra(
    absent: str, flavour: Flavour, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "find_spec", lambda name: None if name == absent else object())
    with pytest.raises(MissingExtraError, match=rf"resnest-serving\[{extra}\]"):
        build.check_target("fp32", flavour, ())


def test_the_gpu_of_this_machine_is_asked_where_no_other_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "find_spec", lambda _: object())
    monkeypatch.setattr(Cuda, "gpu", lambda _: Gpu("an old one", "7.0", "12.4"))
    with pytest.raises(ParameterError, match=r"7\.0 is too old"):
        build.check_target("fp32", Flavour.TENSORRT, ())
    assert build.check_target("fp32", Flavour.RTX, ["12.0"]) is None
