"""What runs a model whose TensorRT engine can't: ONNX Runtime, if that is allowed, and the log says why."""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnest_core import load_detector
from resnest_core.errors import EngineMismatchError, InvalidModelError, MissingExtraError, RuntimeUnavailableError
from resnest_core.runtimes import OnnxRuntime
from resnest_core.runtimes.fake import FAKE_CARD
from resnest_core.runtimes.tensorrt.cuda import Cuda
from tests.core.networks import DEMO, write_network
from tests.core.tensorrt.fake_cuda import FakeCuda
from tests.core.tensorrt.fake_tensorrt import PLAN, FakeTensorRt
from tests.core.tensorrt.manifests import write_engine


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    return Path(shutil.copy(DEMO, tmp_path))


@pytest.fixture(autouse=True)
def api(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    api = FakeCuda()
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRt(api))
    monkeypatch.setattr(Cuda, "load", lambda: Cuda(api))
    return api


def spoilt(onnx: Path, api: FakeCuda, monkeypatch: pytest.MonkeyPatch, trouble: str) -> None:
    """Make an engine that can't run here."""
    plan = write_engine(onnx, PLAN, compute_capability="9.0" if trouble == "other GPU" else "8.9")
    if trouble == "none":
        plan.unlink()
    elif trouble == "cut short":
        plan.write_bytes(PLAN[:3])
    elif trouble == "no TensorRT":
        monkeypatch.setitem(sys.modules, "tensorrt", None)
    elif trouble == "no GPU":
        api.devices = 0


@pytest.mark.parametrize(
    ("trouble", "error", "reason"),
    [
        ("none", InvalidModelError, "There is no "),
        ("cut short", InvalidModelError, "is damaged or cut short"),
        ("other GPU", EngineMismatchError, "was built for compute capability 9.0"),
        ("no TensorRT", MissingExtraError, "TensorRT is not installed"),
        ("no GPU", RuntimeUnavailableError, "CUDA finds no GPU here"),
    ],
)
def test_onnx_runtime_takes_over_where_it_may(
    onnx: Path,
    api: FakeCuda,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trouble: str,
    error: type[Exception],
    reason: str,
) -> None:
    spoilt(onnx, api, monkeypatch, trouble)
    with pytest.raises(error, match=reason):
        load_detector(onnx, runtime="tensorrt")
    with (
        caplog.at_level(logging.WARNING),
        load_detector(onnx, runtime="tensorrt", fallback=True, threads=1) as detector,
    ):
        assert detector.runtime.name == "onnxruntime"
        assert len(detector.detect(np.zeros((32, 32, 3), np.uint8), score_threshold=0.99)) == 0
    [record] = caplog.records
    assert record.message.startswith(f"{onnx} runs in ONNX Runtime on cpu in fp32, without TensorRT: ")
    assert reason in record.message


@pytest.mark.parametrize(
    ("engine", "computed"), [("fp32", "fp32"), ("fp16", "fp32"), ("bf16", "fp32"), ("fp8", "fp32"), ("int8", "int8")]
)
def test_the_file_beside_an_engine_runs_in_its_own_precision_and_says_which(
    onnx: Path,
    api: FakeCuda,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    engine: str,
    computed: str,
) -> None:
    """Beside an engine in 16-bit floats or fp8 is the network in fp32; that of int8 is quantized itself."""
    write_network(onnx, FAKE_CARD.model_copy(update={"precision": engine}))
    spoilt(onnx, api, monkeypatch, "other GPU")
    with caplog.at_level(logging.WARNING), load_detector(onnx, runtime="tensorrt", fallback=True) as detector:
        assert detector.card.precision == computed
    [record] = caplog.records
    assert f"runs in ONNX Runtime on cpu in {computed}, without TensorRT: " in record.message


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_bf16_engine_falls_back_to_the_cpu_where_cuda_finds_no_device(
    onnx: Path, api: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_network(onnx, FAKE_CARD.model_copy(update={"precision": "bf16"}))
    spoilt(onnx, api, monkeypatch, "no GPU")
    every = ["CUDAExecutionProvider", "CPUExecutionProvider"]  # as onnxruntime-gpu has them without a driver
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: every)
    with load_detector(onnx, runtime="tensorrt", fallback=True) as detector:
        assert (detector.runtime.name, detector.runtime.device) == ("onnxruntime", "cpu")


def test_the_gpu_comes_before_the_cpu(
    onnx: Path, api: FakeCuda, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spoilt(onnx, api, monkeypatch, "other GPU")
    asked: list[dict[str, Any]] = []
    load = OnnxRuntime.load

    def recording(path: Path, **options: Any) -> OnnxRuntime:
        asked.append(options)
        return load(path)

    monkeypatch.setattr(OnnxRuntime, "load", recording)
    load_detector(onnx, runtime="tensorrt", fallback=True, threads=3, instances=2).close()
    assert asked == [{"device": "cuda", "threads": 3, "instances": 2}]
    assert "runs in ONNX Runtime on cpu in fp32, without TensorRT" in caplog.text


def test_an_engine_that_runs_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    onnx = write_network(tmp_path / "model.onnx", FAKE_CARD)
    write_engine(onnx, PLAN)
    with load_detector(onnx, runtime="tensorrt", fallback=True) as detector:
        assert detector.runtime.name == "tensorrt"
    assert not caplog.records


def test_a_damaged_network_has_nothing_to_fall_back_to(onnx: Path) -> None:
    onnx.write_bytes(b"damaged")
    with pytest.raises(InvalidModelError, match=r"model\.onnx is damaged"):
        load_detector(onnx, runtime="tensorrt", fallback=True)


def test_where_nothing_runs_it_the_log_has_the_engines_reason(
    onnx: Path, api: FakeCuda, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spoilt(onnx, api, monkeypatch, "other GPU")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match="onnxruntime is not installed"):
        load_detector(onnx, runtime="tensorrt", fallback=True)
    assert "was built for compute capability 9.0" in caplog.text


def test_another_runtime_has_no_fallback(onnx: Path) -> None:
    with pytest.raises(RuntimeUnavailableError, match="openvino runtime runs on cpu"):
        load_detector(onnx, runtime="openvino", device="cuda", fallback=True)
