"""`resnest bench --profile` on the demo model, in both runtimes."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest

from resnest_client.bench.profiling import peak, profiler
from resnest_client.bench.profiling.flops import flop
from resnest_client.bench.profiling.operators import PROFILED
from resnest_client.bench.profiling.results import BETWEEN, Profile
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
from resnest_core.card import METADATA_KEY, ModelCard
from resnest_core.errors import MissingExtraError, ModelNotFoundError
from resnest_core.repository import network_path
from resnest_core.runtimes import onnxruntime_runtime
from tests.client.bench.test_bench import bench, refused
from tests.triton.server import REPOSITORY

PHOTOGRAPHS = Path(__file__).parents[2] / "data" / "demo" / "images"
PHOTOGRAPH = min(PHOTOGRAPHS.iterdir())
WIDTH = 64  # the demo's FPN channels
HOST = {"decode", "resize", "encode"}


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
    assert {stage.name for stage in found.stages} == {*HOST, *NETWORK, BETWEEN}
    assert all(stage.ms > 0 for stage in found.stages if stage.name != BETWEEN)
    assert sum(stage.share_of_time for stage in found.stages) == pytest.approx(1)
    of_network = sum(stage.ms for stage in found.stages if stage.name not in HOST)
    assert found.stage(BETWEEN).ms <= 0.1 * of_network
    assert found.by_neighbour_ms <= 0.1 * of_network
    assert sum(stage.ms for stage in found.stages) == pytest.approx(found.whole_ms, rel=0.25)
    assert found.detections > 0 and found.masks
    working = {stage.name for stage in found.stages if stage.gflop}
    assert working == {BACKBONE, FPN, RPN, BOX_HEAD, MASK_HEAD}
    assert found.stage(FPN).gflop == pytest.approx(fpn_gflop(*found.image.padded_size_hw))
    assert found.gflop == pytest.approx(sum(stage.gflop or 0 for stage in found.stages))
    assert found.peak_gflop_per_second > 1 and not found.notes
    assert all(0 < (found.stage(name).share_of_peak or 0) < 2 for name in working)
    assert sorted(file.name for file in (tmp_path / "plots").iterdir()) == ["profile.png", "profile.svg"]


def fpn_gflop(height: int, width: int) -> float:
    """Two operations for each input channel and tap of each output: 1×1 from the backbone's channels, then 3×3."""
    levels = zip((4, 8, 16, 32), (128, 256, 512, 1024), strict=True)
    return (
        sum(2 * (height // stride) * (width // stride) * WIDTH * (channels + 9 * WIDTH) for stride, channels in levels)
        / 1e9
    )


def test_the_table(tmp_path: Path) -> None:
    result = bench("--profile", "--images", PHOTOGRAPHS, "--runtime", "onnxruntime", "--count", 1, "--no-masks")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("demo, onnxruntime, fp32, ") and "% of peak" in lines[1]
    assert [line.split("  ")[0] for line in lines[2:]][: len(NETWORK)] == ["decode", "resize", *NETWORK[:-2]]
    assert "boxes only" in result.stdout and f"on {PHOTOGRAPH.name}" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_model_without_masks(network: onnx.ModelProto, tmp_path: Path) -> None:
    path = network_path(tmp_path / "repository", "boxes")  # the card in the file says otherwise
    path.parent.mkdir(parents=True)
    onnx.save(without_masks(network), path)
    arguments = ("--repository", tmp_path / "repository", "--runtime", "openvino", "--count", 1, "--threads", 1)
    found = profiled(tmp_path / "profile.json", *arguments)
    assert {stage.name for stage in found.stages} == {*HOST, *NETWORK, BETWEEN} - {MASK_ROIS, MASK_HEAD}
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
    (entry,) = (each for each in model.metadata_props if each.key == METADATA_KEY)
    card = ModelCard.model_validate_json(entry.value)
    entry.value = card.model_copy(update={"mask_size": None}).model_dump_json()
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
    assert graph.stage_of(operator) == graph.nodes[like]


def test_names_that_tell_nothing(graph: Graph) -> None:
    assert graph.stage_of("ReorderInput_token_179") is None
    assert graph.stage_of("Multiply_58279") is None


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
    for more in (("--rate", 1), ("--concurrency", 1), ("--duration", 1), ("--all",), ("--markdown", tmp_path / "a.md")):
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
    for module in (peak, onnxruntime_runtime):
        monkeypatch.setattr(module, "allowed_cpus", lambda: 5)
    monkeypatch.setattr(onnxruntime_runtime, "allowed_cores", lambda: 4)
    assert {name: peak.default_threads(name) for name in PROFILED} == {"onnxruntime": 4, "openvino": 5}
