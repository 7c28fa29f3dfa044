"""bf16 and int8 of the demo model: what the files hold, what they find, and the gate before them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from PIL import Image

from resnest_core import load_detector
from resnest_core.card import read_card
from resnest_core.errors import InvalidModelError, ParameterError, RuntimeUnavailableError
from resnest_core.evaluation import evaluate
from resnest_core.repository import network_path
from resnest_core.runtimes import OpenVinoRuntime
from resnest_core.runtimes.cpu_instructions import has_int8_products
from resnest_export.check import agreement
from resnest_export.onnx_domain import DOMAIN
from resnest_export.pipeline import export_detector
from resnest_export.precision import Gate, Precision
from resnest_export.quantize import CPU, MAX_CALIBRATION, SENSITIVE, calibration_images, quantize
from resnest_export.request import ExportRequest
from tests.data.parity import compare
from tests.export import goldens
from tests.export.traces import FEW_PROPOSALS, Traces
from tests.weights import DEMO, REPOSITORY, demo_state_dict

ANNOTATIONS, IMAGES = DEMO / "instances.json", DEMO / "images"
LOSS = 0.05  # of AP on six photographs, where one object is a twentieth


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "demo.pth"
    torch.save({"meta": {}, "state_dict": demo_state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def repository(checkpoint: Path, traces: Traces, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the demo in int8 and bf16, both let through a gate."""
    folder = tmp_path_factory.mktemp("repository")
    gate = Gate(LOSS, ANNOTATIONS, IMAGES)
    lines: list[str] = []
    for precision, calibration in ((Precision.INT8, IMAGES), (Precision.BF16, None)):
        request = ExportRequest("demo", checkpoint, folder, precision=precision, calibration=calibration, gate=gate)
        with traces.shared():
            export_detector(request, lines.append)
    assert sum("AP" in line and "in fp32" in line for line in lines) == 4, lines
    in_fp32 = [line for line in lines if line.startswith("The network in fp32: ")]
    assert sum("against PyTorch" in line for line in in_fp32) == 8, lines
    assert sum("against PyTorch" in line for line in lines) == 16, lines
    return folder


def test_cards(repository: Path) -> None:
    for precision in ("int8", "bf16"):
        card = read_card(network_path(repository, f"demo_{precision}"))
        assert (card.name, card.precision) == (f"demo_{precision}", precision)
        assert card.unquantized_precision == ("bf16" if precision == "int8" else "fp32")


def test_layers_are_int8_but_for_the_sensitive_ones(repository: Path) -> None:
    model = onnx.load(network_path(repository, "demo_int8"))
    assert {function.domain for function in model.functions} == {DOMAIN}
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    made_by = {output: node for node in model.graph.node for output in node.output}
    kept: list[onnx.NodeProto] = []
    quantized: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type in CPU.operators and (node.input[1] in stored or made_by[node.input[1]].input[0] in stored):
            (quantized if node.input[1] not in stored else kept).append(node)
    assert len(quantized) > len(kept) / 2
    assert {node.op_type for node in quantized} == {"Conv", "ConvTranspose", "Gemm"}
    assert any(group.i > 1 for node in quantized for group in node.attribute if group.name == "group")
    names = [node.input[1] for node in kept]
    assert names
    assert {part for part in SENSITIVE if any(part in name for name in names)} == set(SENSITIVE)
    assert [name for name in names if not any(part in name for part in SENSITIVE)] == []
    for node in quantized:
        weights, image = (made_by[name] for name in (node.input[1], node.input[0]))
        assert weights.op_type == image.op_type == "DequantizeLinear"
        assert stored[weights.input[0]].data_type == onnx.TensorProto.INT8
        assert len(stored[weights.input[1]].dims) == 1  # a scale per output channel


def test_no_value_is_quantized_twice(repository: Path) -> None:
    """A residual block's addition and its first convolution read the same quantized values."""
    graph = onnx.load(network_path(repository, "demo_int8")).graph
    sources = [node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert len(sources) == len(set(sources)) > 30
    made_by = {output: node for node in graph.node for output in node.output}
    read: dict[str, set[str]] = {}
    for node in graph.node:
        for name in node.input:
            read.setdefault(name, set()).add(node.op_type)
    shared = [name for name in read if made_by.get(name, node).op_type == "DequantizeLinear" and len(read[name]) > 1]
    assert shared  # such as the maps between stages, which the shortcut's pooling reads too


def test_regions_are_cut_from_unquantized_maps(repository: Path) -> None:
    graph = onnx.load(network_path(repository, "demo_int8")).graph
    made_by = {output: node for node in graph.node for output in node.output}
    pooling = [node for node in graph.node if node.domain == DOMAIN and "RoIAlign" in node.op_type]
    assert len(pooling) == 2
    for node in pooling:
        assert {made_by[name].op_type for name in node.input[:4]} == {"Conv"}


@pytest.mark.skipif(not has_int8_products(), reason="the CPU has no 8-bit dot products")
def test_openvino_computes_them_in_8_bits(repository: Path) -> None:
    with OpenVinoRuntime.load(network_path(repository, "demo_int8")) as runtime:
        nodes = runtime._model.get_runtime_model().get_ops()
    found: dict[str, list[str]] = {}
    for node in nodes:
        info = node.get_rt_info()
        kind, precision = (str(info[key].astype(str)) for key in ("layerType", "runtimePrecision"))
        found.setdefault(kind.removesuffix("QuantizedLegacy"), []).append(precision)
    eight_bits = {kind: sum(each in ("u8", "i8") for each in all_of) for kind, all_of in found.items()}
    print(found["Convolution"], found["FullyConnected"], found["Deconvolution"])
    assert eight_bits["Deconvolution"] == 1
    assert eight_bits["FullyConnected"] == 1  # the others output scores and box deltas
    assert eight_bits["Convolution"] > len(found["Convolution"]) / 2


@pytest.mark.parametrize(
    ("name", "runtime"), [("demo_int8", "openvino"), ("demo_int8", "onnxruntime"), ("demo_bf16", "openvino")]
)
def test_accuracy(repository: Path, name: str, runtime: str) -> None:
    with (
        load_detector("demo", repository=REPOSITORY) as exact,
        load_detector(name, repository=repository, runtime=runtime) as detector,
    ):
        before, after = (evaluate(each, ANNOTATIONS, IMAGES) for each in (exact, detector))
        answer = detector.detect(goldens.photograph_path("000000000073"), score_threshold=0.5)
    for iou_type in ("bbox", "segm"):
        was, ap = before[iou_type]["AP"], after[iou_type]["AP"]
        print(name, runtime, iou_type, was, ap)
        assert was is not None and ap is not None and was - ap <= LOSS
    golden = goldens.load("demo", "000000000073")
    sure = golden["scores"] > 0.5
    assert sure.any()
    truth = {key: golden[key][sure] for key in ("boxes", "scores", "labels")}
    assert compare.agreement(truth, goldens.as_answer(answer), iou=0.85, score=0.2)["found"] == 1


@pytest.mark.parametrize(("name", "found"), [("demo_int8", 0.8), ("demo_bf16", 0.94)])
def test_detections_agree_with_those_in_fp32(repository: Path, name: str, found: float) -> None:
    """Of all detections above 0.05, by boxes within 8 px and scores within 0.05: rounded regions would miss this."""
    with load_detector("demo", repository=REPOSITORY) as exact, load_detector(name, repository=repository) as detector:
        figures = [
            agreement(exact.detect(path), detector.detect(path), exact.card, pixels=8, score=0.05)
            for path in sorted(IMAGES.iterdir())
        ]
    count = sum(each.count for each in figures)
    share = sum(each.found * each.count for each in figures) / count
    print(name, share, count)
    assert share >= found


def test_onnx_runtime_has_no_bf16(repository: Path) -> None:
    with pytest.raises(RuntimeUnavailableError, match="use the runtime openvino"):
        load_detector("demo_bf16", repository=repository, runtime="onnxruntime")


def test_a_worse_model_is_refused(checkpoint: Path, traces: Traces, tmp_path: Path) -> None:
    """Ten proposals find less than a thousand: nothing is written."""
    gate = Gate(0.005, ANNOTATIONS, IMAGES)
    lines: list[str] = []
    with traces.shared(), pytest.raises(InvalidModelError, match=r"loses 0\.\d+ of AP, more than --gate 0\.005"):
        export_detector(ExportRequest("demo", checkpoint, tmp_path, gate=gate, max_proposals=10), lines.append)
    assert any("bbox AP" in line for line in lines)
    assert not network_path(tmp_path, "demo").exists()


def test_fewer_proposals(checkpoint: Path, traces: Traces, tmp_path: Path) -> None:
    request = ExportRequest("demo", checkpoint, tmp_path, max_proposals=FEW_PROPOSALS)
    with traces.shared():  # with the export of an engine, which has as many
        path = export_detector(request, lambda _: None)
    assert f"{FEW_PROPOSALS} proposals" in read_card(path).notes
    with load_detector(path) as fewer, load_detector("demo", repository=REPOSITORY) as whole:
        few, all_of_them = (evaluate(each, ANNOTATIONS, IMAGES)["bbox"]["AP"] for each in (fewer, whole))
    assert few is not None and all_of_them is not None
    assert few != all_of_them and few >= all_of_them - LOSS


def test_options_that_would_do_nothing(checkpoint: Path, tmp_path: Path) -> None:
    def export(**options: Any) -> None:
        export_detector(ExportRequest("demo", checkpoint, tmp_path, **options))

    with pytest.raises(ParameterError, match="--calibration"):
        export(precision=Precision.INT8)
    with pytest.raises(ParameterError, match="There are no images in"):
        export(precision=Precision.INT8, calibration=tmp_path)
    with pytest.raises(ParameterError, match="bf16 needs no --calibration"):
        export(precision=Precision.BF16, calibration=IMAGES)
    with pytest.raises(ParameterError, match="--gate compares with fp32"):
        export(gate=Gate(0.005, ANNOTATIONS, IMAGES))
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ParameterError, match=r"text\.jpg can't be calibrated on: This is not an image"):
        export(precision=Precision.INT8, calibration=tmp_path)


@pytest.mark.parametrize("mode", ["RGB", "L"], ids=["three images", "greyscale only"])
def test_a_few_photographs_suffice(mode: str, tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for path in sorted(IMAGES.iterdir())[:3]:
        Image.open(path).convert(mode).save(folder / path.name)
    chosen = calibration_images(folder)
    assert len(chosen) == 3
    path, source = tmp_path / "model.onnx", network_path(REPOSITORY, "demo")
    quantize(source, path, read_card(source).model_copy(update={"precision": "int8"}), chosen)
    photograph = goldens.photograph_path("000000000073")
    with load_detector(source) as exact, load_detector(path) as detector:
        expected, found = (each.detect(photograph, score_threshold=0.5) for each in (exact, detector))
    assert agreement(expected, found, exact.card, pixels=16, score=0.2).found == 1


def test_an_unreadable_photograph_is_named(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (64, 48)).save(tmp_path / f"{number}.jpg")
    (tmp_path / "1.jpg").write_bytes((tmp_path / "1.jpg").read_bytes()[:200])
    with pytest.raises(ParameterError, match=r"1\.jpg can't be calibrated on: .*") as caught:
        calibration_images(tmp_path)
    assert "\n" not in str(caught.value)


def test_calibration_images_are_spread_over_the_folder(tmp_path: Path) -> None:
    photograph = goldens.photograph_path("000000000073").read_bytes()
    for number in range(2 * MAX_CALIBRATION):
        (tmp_path / f"{number:03}.jpg").write_bytes(photograph)
    chosen = calibration_images(tmp_path)
    assert len(chosen) == MAX_CALIBRATION
    assert (chosen[0].name, chosen[-1].name) == ("000.jpg", "127.jpg")
