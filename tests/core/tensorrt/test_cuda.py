"""The functions used exist in the real CUDA and TensorRT libraries, as far as these are installed."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys

import pytest

from resnest_core.errors import MissingExtraError, RuntimeUnavailableError
from resnest_core.runtimes.tensorrt import cuda, missing_gpu
from resnest_core.runtimes.tensorrt.cuda import Cuda
from tests.core.tensorrt.fake_cuda import FakeCuda

LIBRARY = """
import inspect, logging
from resnest_core.runtimes.tensorrt.manifest import Flavour
from resnest_core.errors import InvalidModelError
from resnest_core.runtimes.tensorrt.library import CudaEngine, ExecutionContext, TensorRtLibrary
import tensorrt_rtx as trt

for protocol, real in ((CudaEngine, trt.ICudaEngine), (ExecutionContext, trt.IExecutionContext)):
    for name in protocol.__protocol_attrs__ if hasattr(protocol, "__protocol_attrs__") else vars(protocol):
        assert name.startswith("_") or hasattr(real, name), name
for name in ("set_execution_context_allocation_strategy", "cuda_graph_strategy"):
    assert hasattr(trt.IRuntimeConfig, name), name
assert trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE and trt.CudaGraphStrategy.DISABLED
assert trt.ExecutionContextAllocationStrategy.USER_MANAGED
assert trt.nptype(trt.DataType.UINT8) and trt.TensorIOMode.INPUT

logging.basicConfig(level=logging.WARNING)
try:
    TensorRtLibrary.load(Flavour.RTX).load_engine(b"no engine" * 99, version_compatible=False)
except InvalidModelError as error:
    print(error)
for operator in ("MultiLevelRoIAlign", "BatchedNMS"):
    assert trt.get_plugin_registry().get_creator(operator, "1", "resnest"), operator
"""


def test_every_function_that_is_called_is_in_the_bindings_and_in_the_fake() -> None:
    from cuda.bindings import runtime

    nodes = list(ast.walk(ast.parse(inspect.getsource(cuda))))
    called = {node.value for node in nodes if isinstance(node, ast.Constant) and str(node.value).startswith("cuda")}
    named = {node.attr for node in nodes if isinstance(node, ast.Attribute) and node.attr.startswith("cuda")}
    functions = {name for name in called | named if hasattr(runtime, str(name))}
    assert len(functions) > 20 and {"cudaMalloc", "cudaGraphLaunch", "cudaError_t", "cudaHostAllocDefault"} <= functions
    # Those in the enumerations.
    enumerations = (runtime.cudaError_t, runtime.cudaMemcpyKind, runtime.cudaStreamCaptureMode)
    members = {name for name in named if any(hasattr(each, name) for each in enumerations)}
    assert named - functions == members
    fake = FakeCuda()
    assert {name for name in functions if not hasattr(fake, str(name))} == set()


def test_a_gpu_or_a_sentence() -> None:
    """CI has no GPU; a developer may have one."""
    try:
        gpu = Cuda.load().gpu()
    except RuntimeUnavailableError as error:
        assert re.match("There is no NVIDIA driver here: |CUDA finds no GPU here |CUDA_VISIBLE_DEVICES=", str(error))
        assert str(error).endswith(", or use the runtime onnxruntime.")
    else:
        assert gpu.name and float(gpu.compute_capability) >= 5


def test_what_is_known_of_a_gpu() -> None:
    assert Cuda(FakeCuda()).gpu() == ("NVIDIA L4", "8.9", "13.2")


def refused(cuda: FakeCuda, error: str | None = None, *, driver: int = 13020, runtime: int = 13000) -> str:
    cuda.driver_version, cuda.runtime_version = driver, runtime
    if error:
        cuda.fail["cudaGetDeviceCount"] = getattr(cuda.cudaError_t, error)
    with pytest.raises(RuntimeUnavailableError) as raised:
        Cuda(cuda).gpu()
    assert str(raised.value).endswith(", or use the runtime onnxruntime.")
    return str(raised.value)


def test_no_gpu_is_said_to_be_missing_or_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert refused(FakeCuda(devices=0)).startswith("CUDA finds no GPU here (none is visible): check that `nvidia-smi`")
    assert refused(FakeCuda(), "cudaErrorNoDevice").startswith("CUDA finds no GPU here (no device): check")
    for hidden in ("-1", ""):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        for without in (refused(FakeCuda(devices=0)), refused(FakeCuda(), "cudaErrorNoDevice")):
            assert without.startswith(f"CUDA_VISIBLE_DEVICES={hidden} hides every GPU: unset it, name one")


def test_a_driver_that_is_missing_too_old_or_inconsistent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # which isn't the cause
    too_old = "cudaErrorInsufficientDriver"
    assert refused(FakeCuda(), too_old, driver=0).startswith("There is no NVIDIA driver here: install one, start")
    for error in (too_old, "cudaErrorCompatNotSupportedOnDevice"):
        assert refused(FakeCuda(), error, driver=12040).startswith(
            "The NVIDIA driver is too old: it runs CUDA up to 12.4 and the installed packages need 13.0: "
            "update it to 580 or later, install the extra tensorrt-cu12 in place of tensorrt, or use"
        )
    with_12 = refused(FakeCuda(), too_old, driver=11080, runtime=12090)
    assert "up to 11.8 and the installed packages need 12.0: update it to 525 or later, or use" in with_12
    assert "extra" not in refused(FakeCuda(), too_old, driver=11080)
    assert "need 14.0: update it, or use" in refused(FakeCuda(), too_old, driver=13000, runtime=14000)
    assert "restart the machine" in refused(FakeCuda(), "cudaErrorSystemDriverMismatch")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("cudaErrorInitializationError", "initialization error"),
        ("cudaErrorSystemNotReady", "system not yet initialized"),
    ],
)
def test_cuda_that_does_not_start_is_quoted(error: str, words: str) -> None:
    assert refused(FakeCuda(), error).startswith(f"CUDA can't start here ({words}): check that `nvidia-smi` works")


def test_the_errors_that_are_told_apart_exist() -> None:
    from cuda.bindings import runtime

    errors = set(re.findall(r"kinds\.(\w+)", inspect.getsource(missing_gpu)))
    assert len(errors) == 5 and {error for error in errors if not hasattr(runtime.cudaError_t, error)} == set()


def test_absent_bindings_name_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(MissingExtraError, match=r"cuda-bindings is not installed: .*\[tensorrt\]"):
        Cuda.load()


@pytest.mark.rtx
def test_tensorrt_has_what_is_used_of_it() -> None:
    """And our plugins are found by it. In a process of its own: a fault of the library would end this one."""
    result = subprocess.run([sys.executable, "-c", LIBRARY], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "TensorRT-RTX can't read the engine, its log says why: export it again.\n"
    assert "ERROR:resnest_core.runtimes.tensorrt.library:TensorRT: " in result.stderr
