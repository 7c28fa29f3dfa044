"""OpenVINO's own files beside an exported one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from resnest_core.cli import build
from resnest_core.detector import InProcessDetector
from resnest_core.errors import InvalidModelError
from resnest_core.repository import network_path
from resnest_core.runtimes import OpenVinoRuntime, openvino_files
from resnest_export.request import ExportRequest
from tests.core.networks import DEMO
from tests.server.test_serve import PHOTOGRAPH


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copy(DEMO, tmp_path / "model.onnx"))


def test_they_answer_what_the_onnx_file_answers(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with InProcessDetector(OpenVinoRuntime.load(model)) as detector:
        card, expected = detector.card, detector.detect(PHOTOGRAPH)
    assert openvino_files.save(model) == model.with_name("model.xml")
    monkeypatch.setattr(openvino_files, "convert", None)  # what would read the ONNX file
    with InProcessDetector(OpenVinoRuntime.load(model)) as detector:
        assert detector.card == card
        found = detector.detect(PHOTOGRAPH)
    assert len(found) == len(expected) > 0
    np.testing.assert_array_equal(found.boxes_xyxy, expected.boxes_xyxy)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_those_of_an_earlier_export_are_not_used(model: Path) -> None:
    openvino_files.save(model)
    proto = onnx.load(model)
    proto.producer_version = "a later one"
    onnx.save(proto, model)
    network = openvino_files.read_network(model)
    assert not network.has_rt_info(openvino_files.ONNX_SHA256)  # it was converted


@pytest.mark.parametrize("mark", ["", '<resnest_conversion value="1" />'])
def test_those_of_another_conversion_are_not_used(model: Path, mark: str) -> None:
    """The first conversion, which kept OpenVINO's own choice among equal scores, wrote no mark of its own."""
    path = openvino_files.save(model)
    text = path.read_text()
    own = f'<{openvino_files.CONVERSION} value="{openvino_files.CURRENT_CONVERSION}" />'
    assert openvino_files.read_network(model).has_rt_info(openvino_files.ONNX_SHA256)
    assert text.count(own) == 1
    path.write_text(text.replace(own, mark))
    network = openvino_files.read_network(model)
    assert not network.has_rt_info(openvino_files.ONNX_SHA256)  # it was converted


def test_a_loaded_model_answers_alike_after_its_files_are_overwritten(model: Path) -> None:
    weights = openvino_files.save(model).with_suffix(".bin")
    with InProcessDetector(OpenVinoRuntime.load(model)) as detector:
        before = detector.detect(PHOTOGRAPH)
        for path in (weights, model):
            with path.open("r+b") as file:  # in place, as `cp` writes
                file.write(bytes(path.stat().st_size))
        after = detector.detect(PHOTOGRAPH)
    assert len(before) > 0
    np.testing.assert_array_equal(before.scores, after.scores)


@pytest.mark.parametrize("damage", ["", "<net", "text"])
def test_damaged_ones_are_a_sentence(model: Path, damage: str) -> None:
    openvino_files.save(model).write_text(damage)
    with pytest.raises(InvalidModelError, match=r"model\.xml is damaged: export it again, or delete it\.$"):
        OpenVinoRuntime.load(model)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export_detector(request: ExportRequest, _report: object) -> Path:
        path = network_path(request.repository, str(request.detector))
        path.parent.mkdir(parents=True)
        return Path(shutil.copy(DEMO, path))

    monkeypatch.setattr("resnest_export.pipeline.export_detector", export_detector)
    checkpoint = tmp_path / "demo.pth"
    options = ["--to", "openvino", "--checkpoint", str(checkpoint), "--repository", str(tmp_path)]
    result = CliRunner().invoke(build(), ["export", "demo", *options])
    assert result.exit_code == 0, result.output
    assert network_path(tmp_path, "demo").with_name("model.bin").stat().st_size > 1_000_000
