"""bf16 and int8 of the demo model: what the files hold, what they find, and the gate before them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from resnest_core import load_detector
from resnest_core.card import read_card
from resnest_core.errors import InvalidModelError, ParameterError, RuntimeUnavailableError
from resnest_core.evaluation import evaluate
from resnest_core.repository import network_path
from resnest_export.onnx_domain import DOMAIN
from resnest_export.pipeline import export_detector
from resnest_export.precision import Gate, Precision
from resnest_export.quantize import MAX_CALIBRATION, SENSITIVE, calibration_images
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


def test_convolutions_are_int8_but_for_the_sensitive_ones(repository: Path) -> None:
    model = onnx.load(network_path(repository, "demo_int8"))
    assert {function.domain for function in model.functions} == {DOMAIN}
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    made_by = {output: node for node in model.graph.node for output in node.output}
    kept: list[onnx.NodeProto] = []
    quantized: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "Conv":
            (quantized if node.input[1] not in stored else kept).append(node)
    assert len(quantized) > len(kept) / 2
    names = [node.input[1] for node in kept]
    assert names
    assert {part for part in SENSITIVE if any(part in name for name in names)} == set(SENSITIVE)
    assert [name for name in names if not any(part in name for part in SENSITIVE)] == []
    for node in quantized:
        weights, image = (made_by[name] for name in (node.input[1], node.input[0]))
        assert weights.op_type == image.op_type == "DequantizeLinear"
        assert stored[weights.input[0]].data_type == onnx.TensorProto.INT8
        assert len(stored[weights.input[1]].dims) == 1  # a scale per output channel


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


def test_calibration_images_are_spread_over_the_folder(tmp_path: Path) -> None:
    photograph = goldens.photograph_path("000000000073").read_bytes()
    for number in range(2 * MAX_CALIBRATION):
        (tmp_path / f"{number:03}.jpg").write_bytes(photograph)
    chosen = calibration_images(tmp_path)
    assert len(chosen) == MAX_CALIBRATION
    assert (chosen[0].name, chosen[-1].name) == ("000.jpg", "127.jpg")
