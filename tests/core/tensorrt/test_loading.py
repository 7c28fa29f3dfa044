"""Loading a TensorRT engine, with fakes in the libraries' places: what is checked first, and what is refused."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from resnest_core import tensors
from resnest_core.errors import (
    EngineMismatchError,
    InvalidModelError,
    MissingExtraError,
    ParameterError,
    ResNeStError,
    RuntimeUnavailableError,
)
from resnest_core.runtimes.fake import FAKE_CARD, FakeRuntime
from resnest_core.runtimes.tensorrt import library as tensorrt_library
from resnest_core.runtimes.tensorrt.cuda import Cuda
from resnest_core.runtimes.tensorrt.runtime import TensorRtRuntime
from tests.core.networks import write_network
from tests.core.tensorrt.fake_cuda import FakeCuda
from tests.core.tensorrt.fake_tensorrt import PLAN, FakeTensorRt
from tests.core.tensorrt.manifests import write_engine
from tests.core.tensorrt.runtime_on_fakes import LYING_STANDING, assert_equal, make_inputs


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> FakeTensorRt:
    """Put the fakes in the libraries' places."""
    api = FakeCuda()
    module = FakeTensorRt(api)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(Cuda, "load", lambda: Cuda(api))
    return module


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    return write_network(tmp_path / "model.onnx", FAKE_CARD)


def test_an_engine_beside_its_network_is_loaded_and_runs(module: FakeTensorRt, onnx: Path) -> None:
    write_engine(onnx, PLAN)
    with TensorRtRuntime.load(onnx) as runtime:
        assert runtime.card == FAKE_CARD
        inputs = make_inputs((2, 320, 448))
        assert_equal(runtime.run(inputs), FakeRuntime().run(inputs))
    assert module.engine.cuda.holds_nothing()
    assert module.runtimes[0].engine_host_code_allowed is False


@pytest.mark.parametrize(("value", "captures"), [(None, 0), ("", 0), ("false", 0), ("True", 1), ("1", 1)])
def test_cuda_graphs_are_made_only_if_the_environment_says_so(
    module: FakeTensorRt, onnx: Path, monkeypatch: pytest.MonkeyPatch, value: str | None, captures: int
) -> None:
    if value is None:
        monkeypatch.delenv("RESNEST_CUDA_GRAPHS", raising=False)
    else:
        monkeypatch.setenv("RESNEST_CUDA_GRAPHS", value)
    write_engine(onnx, PLAN)
    with TensorRtRuntime.load(onnx) as runtime:
        for _ in range(3):
            runtime.run(make_inputs((1, 320, 448)))
    assert module.engine.cuda.log.count("cudaStreamBeginCapture") == captures


def test_a_misspelt_switch_of_cuda_graphs_is_no_silent_default(onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNEST_CUDA_GRAPHS", "ture")
    with pytest.raises(ParameterError, match="RESNEST_CUDA_GRAPHS is 'ture': set it to true or false"):
        TensorRtRuntime.load(onnx)


def test_a_version_compatible_engine_may_bring_its_library(module: FakeTensorRt, onnx: Path) -> None:
    write_engine(onnx, PLAN, build_options={"version_compatible": True})
    TensorRtRuntime.load(onnx).close()
    assert module.runtimes[0].engine_host_code_allowed is True


def refused(error: type[ResNeStError], onnx: Path) -> str:
    with pytest.raises(error) as caught:
        TensorRtRuntime.load(onnx)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith(".")
    return sentence


@pytest.mark.usefixtures("module")
def test_no_engine(onnx: Path) -> None:
    command = "resnest export NAME --checkpoint none --name fake --to tensorrt --precision fp32"
    assert f"run `{command}` on" in refused(InvalidModelError, onnx)


@pytest.mark.usefixtures("module")
def test_an_engine_cut_short(onnx: Path) -> None:
    plan = write_engine(onnx, PLAN)
    plan.write_bytes(PLAN[:4])
    assert "is damaged or cut short" in refused(InvalidModelError, onnx)


@pytest.mark.usefixtures("module")
def test_an_engine_that_tensorrt_can_not_read(onnx: Path) -> None:
    write_engine(onnx, b"something else")
    assert "TensorRT can't read the engine" in refused(InvalidModelError, onnx)


def test_an_engine_of_another_machine_or_network(module: FakeTensorRt, onnx: Path) -> None:
    plan = write_engine(onnx, PLAN, compute_capability="9.0")
    assert "was built for compute capability 9.0" in refused(EngineMismatchError, onnx)
    plan.with_name("model.plan.json").unlink()
    assert "can't be read" in refused(InvalidModelError, onnx)
    write_engine(onnx, PLAN, onnx_sha256="1" * 64)
    assert "was built from another model.onnx" in refused(EngineMismatchError, onnx)
    assert not module.runtimes, "TensorRT was asked to load it"


def test_an_engine_for_smaller_images_than_the_model_sees(module: FakeTensorRt, onnx: Path) -> None:
    lying = LYING_STANDING[0]
    module.engine.profiles = (lying,)
    write_engine(onnx, PLAN, profiles=(lying,))
    assert "runs images up to 320×544 (height×width), not 544×32: run `" in refused(EngineMismatchError, onnx)
    assert not module.runtimes


@pytest.mark.parametrize("change", ["input", "output", "type", "profiles", "masks"])
def test_an_engine_with_other_tensors(module: FakeTensorRt, onnx: Path, change: str) -> None:
    write_engine(onnx, PLAN)
    engine = module.engine
    if change == "input":
        engine.inputs["more"] = np.float32
    elif change == "output":
        del engine.outputs[tensors.LABELS]
    elif change == "type":
        engine.outputs[tensors.SCORES] = np.float16
    elif change == "profiles":
        engine.profiles = LYING_STANDING
    else:
        del engine.outputs[tensors.MASKS]
    assert "has other tensors than its model: run `resnest export" in refused(InvalidModelError, onnx)


def test_an_input_that_tensorrt_dropped_is_not_missed(module: FakeTensorRt, onnx: Path) -> None:
    write_engine(onnx, PLAN)
    del module.engine.inputs[tensors.WANT_MASKS]
    with TensorRtRuntime.load(onnx) as runtime:
        inputs = make_inputs((1, 320, 448))
        wanted = inputs | {tensors.WANT_MASKS: np.ones((1, 1), bool)}
        assert_equal(runtime.run(inputs), FakeRuntime().run(wanted))


def test_missing_packages_name_their_extra(onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_engine(onnx, PLAN)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert "TensorRT is not installed" in refused(MissingExtraError, onnx)
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRt(FakeCuda()))
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    assert "[tensorrt]" in refused(MissingExtraError, onnx)


def test_a_machine_without_a_gpu(onnx: Path, module: FakeTensorRt) -> None:
    write_engine(onnx, PLAN)
    module.engine.cuda.devices = 0
    assert "CUDA finds no GPU here" in refused(RuntimeUnavailableError, onnx)


def test_plugins_of_tensorrt_rtx_are_found_by_entry_point(
    module: FakeTensorRt, onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    plugins = EntryPoint("export", "tests.core.plugins:register", tensorrt_library.PLUGINS)
    monkeypatch.setitem(sys.modules, "tests.core.plugins", SimpleNamespace(register=lambda: asked.append("plugins")))
    monkeypatch.setattr(tensorrt_library, "entry_points", lambda group: [plugins] if group == plugins.group else [])
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", module)
    module.engine.is_captured = False
    write_engine(onnx, PLAN, tensorrt_flavour="tensorrt-rtx", gpu_name=None)
    TensorRtRuntime.load(onnx).close()
    assert asked == ["plugins"]
    write_engine(onnx, PLAN)
    TensorRtRuntime.load(onnx).close()
    assert len(asked) == 1, "an engine of TensorRT needs none"

    monkeypatch.setitem(sys.modules, "tests.core.plugins", None)
    write_engine(onnx, PLAN, tensorrt_flavour="tensorrt-rtx", gpu_name=None)
    assert "[export]" in refused(MissingExtraError, onnx)
