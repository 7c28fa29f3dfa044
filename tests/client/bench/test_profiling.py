"""`resnest bench --profile` on the demo model, in both runtimes."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest

from resnest_client.bench.profiling import peak, profiler
from resnest_client.bench.profiling.attribution import ms_by_stage, rows, work_by_stage
from resnest_client.bench.profiling.flops import flop
from resnest_client.bench.profiling.operators import (
    PROFILED,
    Operator,
    compiled_operators,
    onnxruntime_session,
    openvino_network,
    read_onnxruntime_profile,
)
from resnest_client.bench.profiling.results import BETWEEN, CONVERSIONS, UNATTRIBUTED, Profile, Stage
from resnest_client.bench.profiling.stages import (
    BACKBONE,
    BOX_HEAD,
    BOX_ROIS,
    FPN,
    MASK_HEAD,
    MASK_ROIS,
    NETWORK,
    NMS,
    PROPOSALS,
    RPN,
    Graph,
    read_graph,
)
from resnest_core import cpus
from resnest_core.card import METADATA_KEY, ModelCard
from resnest_core.errors import MissingExtraError, ModelNotFoundError, RuntimeUnavailableError
from resnest_core.repository import network_path
from resnest_core.runtimes import onnxruntime_runtime
from resnest_core.runtimes.openvino_files import import_openvino
from tests.client.bench.test_bench import bench, refused
from tests.triton.server import REPOSITORY

PHOTOGRAPHS = Path(__file__).parents[2] / "data" / "demo" / "images"
PHOTOGRAPH = min(PHOTOGRAPHS.iterdir())
WIDTH = 64  # the demo's FPN channels
HOST = {"decode", "resize", "encode"}
REST = {CONVERSIONS, UNATTRIBUTED, BETWEEN}


TRIES = 3  # the stages and the whole are measured one after the other: on a machine that others use they may differ


@pytest.fixture(autouse=True)
def demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNEST_REPOSITORY", str(REPOSITORY))
    monkeypatch.setattr(profiler, "PEAK_TRIES", 1)


@pytest.fixture(scope="module")
def network() -> onnx.ModelProto:
    return onnx.load(network_path(REPOSITORY, "demo"))


@pytest.fixture(scope="module")
def graph(network: onnx.ModelProto) -> Graph:
    return read_graph(network)


def profiled(file: Path, *arguments: object) -> Profile:
    result = bench("--profile", "--images", PHOTOGRAPH, "--output", file, *arguments)
    assert result.exit_code == 0, result.output
    return Profile.model_validate_json(file.read_bytes())


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_where_the_time_goes(runtime: str, tmp_path: Path) -> None:
    for _ in range(TRIES):
        found = profiled(tmp_path / "profile.json", "--runtime", runtime, "--plots", tmp_path / "plots")
        if sum(stage.ms for stage in found.stages) == pytest.approx(found.whole_ms, rel=0.25):
            break
    assert {stage.name for stage in found.stages} == {*HOST, *NETWORK, *REST}
    assert all(stage.ms > 0 for stage in found.stages if stage.name not in (UNATTRIBUTED, BETWEEN))
    assert sum(stage.share_of_time for stage in found.stages) == pytest.approx(1)
    of_network = sum(stage.ms for stage in found.stages if stage.name not in HOST)
    assert found.stage(BETWEEN).ms <= 0.1 * of_network
    assert found.stage(UNATTRIBUTED).ms <= 0.05 * of_network
    assert 0 < found.stage(CONVERSIONS).ms <= 0.3 * of_network
    assert sum(stage.ms for stage in found.stages) == pytest.approx(found.whole_ms, rel=0.25)
    assert found.detections > 0 and found.masks
    working = {stage.name for stage in found.stages if stage.gflop}
    assert working == {BACKBONE, FPN, RPN, BOX_HEAD, MASK_HEAD}
    assert found.stage(FPN).gflop == pytest.approx(fpn_gflop(*found.image.padded_size_hw))
    assert found.gflop == pytest.approx(sum(stage.gflop or 0 for stage in found.stages))
    assert min(found.peaks_gflop_per_second.values()) > 1 and {"fp32", "int8"} <= found.peaks_gflop_per_second.keys()
    for name in working:
        stage = found.stage(name)
        assert in_precision(stage, "fp32") == pytest.approx(stage.gflop)
        assert stage.gflop_per_second and stage.share_of_peak and stage.share_of_peak < 2
        assert stage.share_of_peak == pytest.approx(stage.gflop_per_second / found.peaks_gflop_per_second["fp32"])
    assert sorted(file.name for file in (tmp_path / "plots").iterdir()) == ["profile.png", "profile.svg"]


def in_precision(stage: Stage, precision: str) -> float:
    """Return the stage's GFLOP in a precision, in which all of them are."""
    assert stage.gflop_by_precision is not None and set(stage.gflop_by_precision) == {precision}
    return stage.gflop_by_precision[precision]


def fpn_gflop(height: int, width: int) -> float:
    """Two operations for each input channel and tap of each output: 1×1 from the backbone's channels, then 3×3."""
    levels = zip((4, 8, 16, 32), (128, 256, 512, 1024), strict=True)
    return (
        sum(2 * (height // stride) * (width // stride) * WIDTH * (channels + 9 * WIDTH) for stride, channels in levels)
        / 1e9
    )


def test_the_table(tmp_path: Path) -> None:
    file = tmp_path / "table.md"
    arguments = ("--runtime", "onnxruntime", "--count", 1, "--no-masks", "--markdown", file)
    result = bench("--profile", "--images", PHOTOGRAPHS, *arguments)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("demo, onnxruntime, fp32, ") and "% of peak" in lines[1]
    assert [line.split("  ")[0] for line in lines[2:]][: len(NETWORK)] == ["decode", "resize", *NETWORK[:-2]]
    assert "boxes only" in result.stdout and f"on {PHOTOGRAPH.name}" in result.stderr
    written = file.read_text()
    assert list(tmp_path.iterdir()) == [file]
    for text in ("| in |", "% of peak", f"| {CONVERSIONS} |", f"| {UNATTRIBUTED} |", "| whole |", "GFLOP/s in fp32"):
        assert text in written
    for name in (CONVERSIONS, UNATTRIBUTED, BETWEEN, "whole"):
        assert any(line.startswith(name) for line in lines), name


def test_a_network_in_bf16_is_compared_with_the_peak_of_bf16(network: onnx.ModelProto, tmp_path: Path) -> None:
    path = network_path(tmp_path / "repository", "demo_bf16")
    path.parent.mkdir(parents=True)
    onnx.save(with_card(network, precision="bf16"), path)
    arguments = ("--repository", tmp_path / "repository", "--runtime", "openvino", "--count", 1)
    if "BF16" not in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        error = bench("--profile", "--images", PHOTOGRAPH, *arguments).exception
        assert isinstance(error, RuntimeUnavailableError)
        return
    found = profiled(tmp_path / "profile.json", *arguments)
    for stage in found.stages:
        if stage.gflop:
            assert in_precision(stage, "bf16") == pytest.approx(stage.gflop)
            assert stage.share_of_peak == pytest.approx(
                (stage.gflop_per_second or 0) / found.peaks_gflop_per_second["bf16"]
            )


def test_a_model_without_masks(network: onnx.ModelProto, tmp_path: Path) -> None:
    path = network_path(tmp_path / "repository", "boxes")  # the card in the file says otherwise
    path.parent.mkdir(parents=True)
    onnx.save(without_masks(network), path)
    arguments = ("--repository", tmp_path / "repository", "--runtime", "openvino", "--count", 1, "--threads", 1)
    found = profiled(tmp_path / "profile.json", *arguments)
    assert {stage.name for stage in found.stages} == {*HOST, *NETWORK, *REST} - {MASK_ROIS, MASK_HEAD}
    assert found.subject.model == "boxes" and found.threads == 1 and not found.masks


def without_masks(network: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model as one that never had a mask head."""
    model = onnx.ModelProto()
    model.CopyFrom(network)
    nodes = list(model.graph.node)
    for node in nodes:  # the batch size is read from it
        node.input[:] = [
            "image_sizes" if name == "want_masks" and node.op_type == "Shape" else name for name in node.input
        ]
    outputs = [each for each in model.graph.output if each.name != "masks"]
    wanted = {each.name for each in outputs}
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    del model.graph.node[:], model.graph.output[:]
    model.graph.node.extend(reversed(kept))
    model.graph.output.extend(outputs)
    inputs = [each for each in model.graph.input if each.name != "want_masks"]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    return with_card(model, mask_size=None)


def with_card(network: onnx.ModelProto, **changes: object) -> onnx.ModelProto:
    """Return the model with another card."""
    model = onnx.ModelProto()
    model.CopyFrom(network)
    (entry,) = (each for each in model.metadata_props if each.key == METADATA_KEY)
    card = ModelCard.model_validate_json(entry.value)
    entry.value = card.model_copy(update=changes).model_dump_json()
    return model


def test_the_stages_of_nodes(graph: Graph) -> None:
    kinds: dict[str, list[str]] = {}
    for node in graph.model.graph.node:
        kinds.setdefault(node.op_type, []).append(graph.nodes[node.name])
    assert kinds["NonMaxSuppression"] == [PROPOSALS, NMS]
    assert kinds["RoiAlign"] == [BOX_ROIS] * 4 + [MASK_ROIS] * 4
    assert set(kinds["TopK"]) == {PROPOSALS}
    assert kinds["ConvTranspose"] == [MASK_HEAD] and kinds["Gemm"] == [BOX_HEAD] * 3
    assert list(dict.fromkeys(kinds["Conv"])) == [BACKBONE, FPN, RPN, BOX_HEAD, MASK_HEAD]
    # The stages are the same where a file has its functions inlined already.
    assert (
        read_graph(graph.model).nodes.items()
        >= {
            node.name: graph.nodes[node.name]
            for node in graph.model.graph.node
            if node.op_type in ("Conv", "Gemm", "ConvTranspose", "RoiAlign", "NonMaxSuppression", "TopK")
        }.items()
    )


def test_weights_that_are_computed(network: onnx.ModelProto, graph: Graph) -> None:
    """Such as those of int8, which are scaled first."""
    model = onnx.ModelProto()
    model.CopyFrom(network)
    names = [each.name for each in model.graph.initializer if each.name.startswith("detector.")]
    scaled = [onnx.helper.make_node("Identity", [name], [f"{name}_scaled"], name=f"{name}_scaling") for name in names]
    nodes = list(model.graph.node)
    for node in nodes:
        node.input[:] = [f"{name}_scaled" if name in names else name for name in node.input]
    del model.graph.node[:]
    model.graph.node.extend([*scaled, *nodes])
    found = read_graph(model)
    assert found.nodes.items() >= graph.nodes.items()
    assert found.constant >= {node.name for node in scaled}


@pytest.mark.parametrize(
    ("operator", "like"),
    [
        ("node_conv2d_31", "node_conv2d_31"),
        ("conv2d_31_nchwc", "node_conv2d_31"),
        ("node_conv2d_31/WithoutBiases", "node_conv2d_31"),
        ("fused node_linear", "node_linear"),
        ("node_conv2d_50_acdb_abcd_node_conv2d_31", "node_conv2d_50"),
    ],
)
def test_names_that_runtimes_make(graph: Graph, operator: str, like: str) -> None:
    assert graph.node_of(operator) == like
    assert graph.stage_of(Operator(operator, 1, "Convolution", "fp32")) == graph.nodes[like]


def test_names_that_tell_nothing(graph: Graph) -> None:
    assert graph.stage_of(Operator("ReorderInput_token_179", 1, "ReorderInput", "fp32")) is None
    assert graph.stage_of(Operator("Multiply_58279", 1, "Eltwise", "fp32")) is None
    assert graph.stage_of(Operator("Multiply_58279", 1, "Eltwise", "fp32", ("x", "node_linear"))) == BOX_HEAD


def test_reorders_and_conversions_are_no_stage_s(graph: Graph) -> None:
    conv, name = "node_conv2d_31", "node_conv2d_50_acdb_abcd_node_conv2d_31"
    operators = [
        Operator(conv, 5, "Convolution", "int8"),
        Operator(name, 1, "Reorder", "int8"),
        Operator(conv, 2, "FakeQuantize", "fp32"),
        Operator(conv, 4, "QuantizeLinear", "fp32"),
        Operator("Transpose_token_1", 8, "Transpose", "fp32"),  # inserted by the runtime
        Operator("Multiply_58279", 16, "Eltwise", "fp32"),
    ]
    assert ms_by_stage(graph, operators) == {graph.nodes[conv]: 5, CONVERSIONS: 15, UNATTRIBUTED: 16}


def test_the_precision_of_the_work(graph: Graph) -> None:
    convs = [name for name, stage in graph.nodes.items() if name.startswith("node_conv2d") and stage == BACKBONE][:3]
    gflop = dict(zip(convs, (1.0, 2.0, 4.0), strict=True))
    ran = [
        Operator(convs[0], 1, "Convolution", "fp32"),
        Operator(f"{convs[1]}/WithoutBiases", 1, "QLinearConv", "int8"),
        Operator(convs[0], 1, "Reorder", "int8"),  # no product
    ]
    # What no operator is named after is counted as most of the rest.
    assert work_by_stage(graph, gflop, ran) == {BACKBONE: {"fp32": 1.0, "int8": 6.0}}
    assert work_by_stage(graph, gflop, []) == {BACKBONE: {"fp32": 7.0}}


def test_shares_of_the_peaks() -> None:
    peaks = {"fp32": 100.0, "int8": 400.0}
    work = {BACKBONE: {"fp32": 1.0, "int8": 4.0}, FPN: {"int8": 8.0}, RPN: {"fp16": 1.0}}
    ms = {"decode": 10.0, BACKBONE: 40.0, FPN: 20.0, RPN: 20.0, NMS: 5.0, CONVERSIONS: 5.0}
    found = {stage.name: stage for stage in rows(ms, work, peaks, share_used=0.5)}
    assert found[BACKBONE].share_of_peak == pytest.approx(
        (1 / 100 + 4 / 400) / 0.040
    )  # as long as each takes at its peak
    assert found[BACKBONE].share_of_used == pytest.approx(1.0)
    assert found[FPN].share_of_peak == pytest.approx(8 / 400 / 0.020)
    assert found[FPN].gflop_per_second == pytest.approx(400)
    assert found[RPN].share_of_peak is None and found[RPN].gflop == 1  # that peak wasn't measured
    assert found[NMS].gflop == 0 and found[NMS].share_of_peak is None
    assert found["decode"].gflop is None and found[CONVERSIONS].gflop_by_precision is None
    assert sum(stage.share_of_time for stage in found.values()) == pytest.approx(1)


def test_more_than_the_peak_is_explained(graph: Graph) -> None:
    for share_used, explained in ((1.0, False), (0.4, True)):
        stages = rows(
            {BACKBONE: 20.0, FPN: 20.0}, {BACKBONE: {"fp32": 1.0}, FPN: {"fp32": 0.5}}, {"fp32": 100.0}, share_used
        )
        notes = " ".join(profiler._notes(graph, stages))
        assert ("More than 100 % (backbone)" in notes) == explained, notes


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_peak_s_product_runs_in_the_precision_it_is_for(precision: str, tmp_path: Path) -> None:
    model, left = peak._matrices(64, precision)
    session = onnxruntime_session(model, 1, profile_in=tmp_path)
    session.run(None, {"a": left})
    ((*_, product),) = read_onnxruntime_profile(Path(session.end_profiling()))
    assert "MatMul" in product[2]["op_name"]
    assert next(iter(product[2]["input_type_shape"][0])) == {"fp32": "float", "int8": "uint8"}[precision]
    compiled = openvino_network(import_openvino().Core(), model, {"INFERENCE_PRECISION_HINT": "f32"})
    assert [each.precision for each in compiled_operators(compiled) if each.is_product] == [precision]
    assert not any(each.is_product and each.is_conversion for each in compiled_operators(compiled))


def test_work_by_hand() -> None:
    assert flop("Conv", [[1, 6, 10, 10], [8, 3, 3, 3], [8]], [[1, 8, 5, 5]]) == 2 * 8 * 25 * 27  # two groups
    assert flop("ConvTranspose", [[2, 3, 4, 4], [3, 5, 2, 2]], [[2, 5, 8, 8]]) == 2 * 2 * 5 * 64 * 3
    assert flop("MatMul", [[7, 2, 3], [7, 3, 4]], [[7, 2, 4]]) == 2 * 7 * 2 * 4 * 3
    assert flop("Gemm", [[5, 9], [4, 9]], [[5, 4]]) == 2 * 5 * 4 * 9
    assert flop("Gemm", [[0, 9], [4, 9]], [[0, 4]]) == flop("Relu", [[5]], [[5]]) == 0


def test_options_that_make_no_sense(tmp_path: Path) -> None:
    arguments = ("--profile", "--images", PHOTOGRAPHS)
    assert "drop --url" in refused(*arguments, "--url", "http://localhost:1")
    assert "drop --device" in refused(*arguments, "--device", "cuda")
    for more in (("--rate", 1), ("--concurrency", 1), ("--duration", 1), ("--all",)):
        assert "drop --concurrency" in refused(*arguments, *more), more
    assert "There is no runtime 'abacus'" in refused(*arguments, "--runtime", "abacus")
    assert "--count" in refused(*arguments, "--count", 1001)
    assert "holds no image" in refused("--profile", "--images", tmp_path)
    assert "can't be used" in refused("--profile", "--images", tmp_path / "none.jpg")
    assert isinstance(bench(*arguments, "--model", "none").exception, ModelNotFoundError)


@pytest.mark.parametrize(("package", "extra"), [("onnxruntime", "server"), ("onnx", "server"), ("matplotlib", "bench")])
def test_what_to_install(package: str, extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    arguments = ("--runtime", "onnxruntime", "--plots", tmp_path)
    error = bench("--profile", "--images", PHOTOGRAPH, *arguments).exception
    assert isinstance(error, MissingExtraError) and f"[{extra}]" in str(error)


def test_the_peak_is_measured_on_as_many_threads_as_a_runtime_has(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (cpus, onnxruntime_runtime):
        monkeypatch.setattr(module, "allowed_cpus", lambda: 5)
    monkeypatch.setattr(onnxruntime_runtime, "allowed_cores", lambda: 4)
    assert {name: peak.default_threads(name) for name in PROFILED} == {"onnxruntime": 4, "openvino": 5}
