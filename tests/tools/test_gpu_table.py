"""`tools/gpu_check.sh --table` with ONNX Runtime in an engine's place, and fakes of the GPU."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from resnest_client.bench.profiling.flops import count_gflop
from resnest_client.bench.profiling.stages import read_graph
from resnest_core.detector import InProcessDetector
from resnest_core.errors import ParameterError
from resnest_core.repository import network_path
from resnest_core.runtimes import OnnxRuntime, TensorRtRuntime
from resnest_core.runtimes.tensorrt.cuda import Cuda, Gpu
from resnest_core.tensors import Tensors
from resnest_export.request import ExportRequest
from tests.core.networks import DEMO
from tests.core.tensorrt.fake_cuda import FakeCuda
from tests.weights import demo_state_dict
from tools.gpu_check.comparison import answers, prepared, two_images
from tools.gpu_check.machine import gpu
from tools.gpu_check.table import command, measuring
from tools.gpu_check.table.command import TableOptions, heard, run
from tools.gpu_check.table.layers import Layer, layers_of, least_seconds
from tools.gpu_check.table.measuring import Reference, inputs_of, measured
from tools.gpu_check.table.peaks import FLOP_PER_CLOCK, Peak, peak_of
from tools.gpu_check.table.results import MARK, Results, Row, Run

EMPTY = Row(gpu="NVIDIA L4", library="TensorRT 11.4", model="mask_rcnn_s50", precision="fp16")


@pytest.mark.parametrize(
    ("capability", "precision", "multiprocessors", "ghz", "teraflop"),
    [
        ("8.0", "fp16", 108, 1.41, 312),
        ("8.0", "fp32", 108, 1.41, 19.5),
        ("8.6", "int8", 72, 1.695, 250),
        ("8.9", "fp16", 58, 2.04, 121),
        ("9.0", "fp16", 132, 1.83, 989),
        ("9.0", "fp8", 132, 1.83, 1979),
        ("9.0", "fp32", 132, 1.98, 67),
    ],
)
def test_rates_are_those_of_the_data_sheets(
    capability: str, precision: str, multiprocessors: int, ghz: float, teraflop: float
) -> None:
    rate = FLOP_PER_CLOCK[capability][precision] * multiprocessors * ghz / 1e3
    assert rate == pytest.approx(teraflop, rel=0.02)


def test_a_peak_is_the_devices_own() -> None:
    cuda = Cuda(FakeCuda())
    peak = peak_of(cuda, "bf16")
    assert peak is not None
    assert peak.flop_per_second == pytest.approx(121e12, rel=0.01)
    assert peak.bytes_per_second == pytest.approx(300e9, rel=0.01)  # an L4's, by its data sheet
    assert peak_of(cuda, "fp4") is None


def test_layers_of_a_network_worked_by_hand() -> None:
    """A convolution of 3 → 4 channels and a product with its own output, of which only the former has weights."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, (4, 3, 3, 3), np.zeros(108, np.float32))
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["y"], "conv", pads=[1, 1, 1, 1]),
            helper.make_node("MatMul", ["y", "y"], ["z"], "product"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8))],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    layers = layers_of(model, {"x": np.zeros((1, 3, 8, 8), np.float32)})
    plane = 8 * 8
    assert layers == [
        Layer("conv", 2 * 4 * plane * 3 * 9, 3 * plane + 4 * plane, 108),
        Layer("product", 2 * 4 * plane * 8, 3 * 4 * plane, 0),
    ]
    peak = Peak(flop_per_second=1e3, bytes_per_second=1.0)  # every layer is bound by memory
    moved = 2 * (2 * (7 + 12) * plane + 108)
    assert least_seconds(layers, 2, "fp16", peak) == moved
    slow = Peak(flop_per_second=1.0, bytes_per_second=1e9)
    assert least_seconds(layers, 2, "fp32", slow) == 2 * sum(layer.flop for layer in layers)


def test_layers_of_a_detector_are_those_of_a_profile(reference: Reference) -> None:
    graph = read_graph(onnx.load(DEMO))
    expected = count_gflop(graph, inputs_of(reference.images[:1], has_masks=True), None)
    assert sum(layer.flop for layer in reference.layers) / 1e9 == pytest.approx(sum(expected.values()))
    stored = {each.name: int(np.prod(each.dims)) for each in graph.model.graph.initializer}
    assert max(layer.weights for layer in reference.layers) in stored.values()


@pytest.fixture(scope="module")
def reference() -> Reference:
    """The demo's own file for the fixed-size network."""
    with InProcessDetector(OnnxRuntime.load(DEMO)) as detector:
        images = prepared(two_images(), detector.card)
        found = [answers(detector, [image])[0] for image in images]
    return Reference(layers_of(onnx.load(DEMO), inputs_of(images[:1], has_masks=True)), images, found)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    def once(call: Callable[[], object], seconds: float) -> float:
        assert seconds == 7
        call()
        return 0.5

    monkeypatch.setattr(measuring, "median_seconds", once)
    monkeypatch.setattr(measuring, "BATCHES", (1, 2))


@pytest.mark.usefixtures("quick")
def test_a_row_has_speed_share_of_the_roofline_and_agreement(reference: Reference) -> None:
    class Shifted(OnnxRuntime):
        def run(self, inputs: Tensors) -> Tensors:
            outputs = dict(super().run(inputs))
            return outputs | {"boxes": outputs["boxes"] + np.float32(3)}

    peak = Peak(flop_per_second=1e12, bytes_per_second=1e15)
    with Shifted.load(DEMO) as runtime:
        row = measured(EMPTY, runtime, reference, peak, 7)
    gflop = sum(layer.flop for layer in reference.layers) / 1e9
    assert row.gflop == gflop > 1
    assert [(run.batch, run.images_per_second, run.latency_ms) for run in row.runs] == [(1, 2, 500), (2, 4, 500)]
    assert [run.of_roofline for run in row.runs] == pytest.approx([gflop / 500, 2 * gflop / 500])
    assert row.detections > 10 and row.found_again == 1
    assert row.box_difference == pytest.approx(3, abs=0.01) and row.score_difference < 1e-4


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_row_is_exported_built_loaded_and_measured(
    reference: Reference, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, precision: str
) -> None:
    requests: list[ExportRequest] = []

    def export_engine(request: ExportRequest, target: Any, report: Callable[[str], None]) -> Path:
        requests.append(request)
        assert target.max_batch == 2 and target.building.compute_capabilities == ()
        path = network_path(request.repository, "any")
        path.parent.mkdir(parents=True)
        for line in ("checked", "Building …", "built"):
            report(line)
        return Path(shutil.copy(DEMO, path))

    cuda = Cuda(FakeCuda())

    def load(path: Path) -> OnnxRuntime:
        cuda.allocate(256 << 20)
        return OnnxRuntime.load(path)

    monkeypatch.setattr(measuring, "export_engine", export_engine)
    monkeypatch.setattr(measuring, "reference_of", lambda request, images: reference)  # noqa: ARG005
    monkeypatch.setattr(measuring.Cuda, "load", lambda: cuda)  # type: ignore[attr-defined]
    monkeypatch.setattr(TensorRtRuntime, "load", load)
    monkeypatch.setattr(measuring, "BuildClock", Clock)
    row = measuring.main(EMPTY.model_copy(update={"precision": precision}), tmp_path, 7, tmp_path / "own.pth")
    (request,) = requests
    assert (request.detector, request.checkpoint.name) == ("mask_rcnn_s50", "own.pth")
    assert request.precision.value == precision
    assert (request.calibration is None) == (precision == "fp16") and not request.winograd
    assert row.build_seconds == 60 and row.memory_gib == 0.25 and len(row.runs) == 2


class Clock(measuring.BuildClock):
    """Has a line a minute."""

    def __call__(self, _: str) -> None:
        self.times.append(60.0 * len(self.times))


def test_the_reference_is_the_engines_network_in_fp32(
    monkeypatch: pytest.MonkeyPatch, reference: Reference, tmp_path: Path
) -> None:
    def engine_graph(detector: Any, card: Any, precision: Any, path: Path) -> None:
        assert detector.has_masks and card.precision == precision.value == "fp32"
        shutil.copy(DEMO, path)

    monkeypatch.setattr(measuring, "engine_graph", engine_graph)
    torch.save({"meta": {}, "state_dict": demo_state_dict()}, tmp_path / "demo.pth")
    request = ExportRequest("demo", tmp_path / "demo.pth", tmp_path)
    made = measuring.reference_of(request, two_images())
    assert made.layers == reference.layers
    assert [len(each) for each in made.found] == [len(each) for each in reference.found]


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "gpu", lambda: Gpu("NVIDIA L4", "8.9", "13.0"))


FIGURES = {
    "gflop": 822.4,
    "build_seconds": 301.2,
    "memory_gib": 2.5,
    "runs": (Run(batch=1, images_per_second=71.23, latency_ms=14.04, of_roofline=0.484),),
    "detections": 87,
    "found_again": 0.977,
    "score_difference": 1.2e-3,
    "box_difference": 0.31,
}


@pytest.mark.usefixtures("on_a_gpu")
def test_what_is_measured_is_kept_and_only_the_rest_is_measured_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = TableOptions(tmp_path / "results.json", models=("mask_rcnn_s50", "faster_rcnn_s50"))
    measured_rows: list[tuple[str, str]] = []

    def measure(empty: Row) -> Row:
        measured_rows.append((empty.model, empty.precision))
        if len(measured_rows) == 2:
            return empty.model_copy(update={"error": "TensorRT crashed."})
        return empty.model_copy(update=FIGURES)

    assert run(options, measure) == 1, "a row has no figures"
    assert [row.error for row in Results.read(options.results).rows] == [None, "TensorRT crashed.", None, None]
    assert "| `mask_rcnn_s50` | int8 | not run: TensorRT crashed. |" in capsys.readouterr().out
    assert run(options, measure) == 0
    assert measured_rows[4:] == [("mask_rcnn_s50", "int8")]
    table = capsys.readouterr().out.splitlines()
    expected = "| 822 | 301 | 1 | 71.2 | 14 | 48% | 2.50 | 98% of 87 | 1.2e-03 | 3.1e-01 |"
    assert "| `faster_rcnn_s50` | fp16 " + expected in table
    assert len({line.count("|") for line in table if line.startswith("|")}) == 1
    assert run(options, measure) == 0 and len(measured_rows) == 5


def test_without_a_gpu_nothing_is_measured_or_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "gpu", lambda: None)
    options = TableOptions(tmp_path / "results.json")
    assert run(options, lambda _: pytest.fail("measured")) == 1
    assert capsys.readouterr().out.count("not run, there is no GPU here") == 16
    assert not options.results.exists()


@pytest.mark.parametrize("options", [{"models": ("mask_rcnn_s5",)}, {"precisions": ("fp17",)}])
def test_what_does_not_exist_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=r"There is no '.*' to measure: use "):
        run(TableOptions(tmp_path / "results.json", **options))
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(ParameterError, match="isn't a file of results"):
        run(TableOptions(tmp_path / "other.json"))


def test_a_process_that_crashes_is_a_row() -> None:
    row = EMPTY.model_copy(update=FIGURES)
    assert heard(EMPTY, f"noise\n{MARK}{row.model_dump_json()}\n", "", 0) == row
    assert heard(EMPTY, "noise", "first\nlast", -11).error == "its process ended with -11: last"


@pytest.mark.skipif(gpu() is not None, reason="there is a GPU")
def test_the_process_itself_says_what_is_missing(tmp_path: Path) -> None:
    """Without a GPU or TensorRT the row has the error of the export."""
    options = TableOptions(tmp_path / "results.json", checkpoints=tmp_path)
    row = command.in_own_process(options)(EMPTY)
    assert row.error is not None and row.error.startswith(("TensorRT is not installed", "This machine has no GPU"))


def test_medians_come_of_several_runs_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 1.0, 4.0, 4.0, 6.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    runs: list[int] = []
    assert measuring.median_seconds(lambda: runs.append(1), 0) == 2.0
    assert len(runs) == 6
