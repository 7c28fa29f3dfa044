"""Models of a precision that the CPU or the runtime hasn't: fp32 with one warning in a server, else refused."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest

from resnest_core import load_detector
from resnest_core.card import METADATA_KEY, read_card
from resnest_core.errors import PrecisionUnavailableError
from resnest_core.runtimes import cpu_instructions, openvino_runtime
from tests.core.examples import DATA
from tests.core.networks import DEMO

PHOTOGRAPH = DATA / "demo" / "images" / "000000000073.jpg"


@pytest.fixture
def old_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import openvino

    told = openvino.Core.get_property

    def get_property(core: openvino.Core, device: str, name: str) -> object:
        found = told(core, device, name)
        return [each for each in found if each != "BF16"] if name == "OPTIMIZATION_CAPABILITIES" else found

    monkeypatch.setattr(openvino.Core, "get_property", get_property)
    info = tmp_path / "cpuinfo"
    info.write_text("flags\t\t: fpu avx2 avx512f\n")
    monkeypatch.setattr(cpu_instructions, "CPU_INFO", info)


def write_model(path: Path, precision: str) -> Path:
    """Write the demo with a card of another precision."""
    model = onnx.load(DEMO)
    card = read_card(DEMO).model_copy(update={"precision": precision, "unquantized_precision": "bf16"})
    onnx.helper.set_model_props(model, {METADATA_KEY: card.model_dump_json()})
    onnx.save(model, path)
    return path


@pytest.mark.usefixtures("old_cpu")
@pytest.mark.parametrize(
    ("precision", "runtime", "lacks"),
    [
        ("bf16", "openvino", "no bf16"),
        ("bf16", "onnxruntime", "has no bf16"),
        ("int8", "openvino", "VNNI"),
        ("int8", "onnxruntime", "VNNI"),
    ],
)
def test_a_server_computes_in_fp32_and_warns_once(
    precision: str, runtime: str, lacks: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_model(tmp_path / "model.onnx", precision)
    with pytest.raises(PrecisionUnavailableError, match=lacks):
        load_detector(path, runtime=runtime)
    caplog.clear()
    with (
        load_detector(path, runtime=runtime, fallback=True) as detector,
        load_detector(DEMO, runtime=runtime) as exact,
    ):
        found, expected = detector.detect(PHOTOGRAPH), exact.detect(PHOTOGRAPH)
    (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert "model.onnx runs in fp32: " in record.message and lacks in record.message
    assert detector.card.precision == "fp32", "clients are told another precision than the one that is computed"
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=0.01)


@pytest.mark.usefixtures("old_cpu")
def test_int8_with_the_remainder_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU may have 8-bit products and no bf16: what isn't quantized is computed in fp32."""
    import openvino

    monkeypatch.setattr(cpu_instructions, "CPU_INFO", Path("absent"))
    card = read_card(DEMO).model_copy(update={"precision": "int8", "unquantized_precision": "bf16"})
    options = openvino_runtime.compile_options(openvino.Core(), card, 1)
    assert options["INFERENCE_PRECISION_HINT"] == "f32"
