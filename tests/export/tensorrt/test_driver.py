"""A kernel launched by the CUDA driver, which is a fake: what it is asked, in which order."""

from __future__ import annotations

import enum
import gc
import sys
from ctypes import c_int32, c_void_p
from types import ModuleType
from typing import Any

import pytest

from resnest_core.errors import MissingExtraError, RuntimeUnavailableError
from resnest_export.kernels.compiling import CompiledKernel
from resnest_export.kernels.launching import Launch
from resnest_export.tensorrt.driver import REMEDIES, LoadedKernel


class Result(enum.Enum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_NO_BINARY_FOR_GPU = 209
    CUDA_ERROR_UNSUPPORTED_PTX_VERSION = 222
    CUDA_ERROR_SYSTEM_DRIVER_MISMATCH = 803
    CUDA_ERROR_UNKNOWN = 999


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Put a fake in the driver's place, which notes what is called."""
    made: list[tuple[Any, ...]] = []
    driver: Any = ModuleType("driver")
    driver.CUresult = Result
    driver.CUfunction_attribute = enum.Enum(  # type: ignore[misc]
        "CUfunction_attribute", "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES"
    )

    def note(name: str, *values: Any) -> Any:
        def call(*arguments: Any) -> tuple[Any, ...]:
            made.append((name, *arguments))
            return (Result.CUDA_SUCCESS, *values)

        return call

    driver.cuModuleLoadData = note("load", "module")
    driver.cuModuleUnload = note("unload")
    driver.cuModuleGetFunction = note("get", "function")
    driver.cuFuncSetAttribute = note("set")
    driver.cuLaunchKernel = note("launch")
    bindings: Any = ModuleType("cuda.bindings")
    bindings.driver = driver
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", driver)
    return made


def kernel(shared_bytes: int = 128) -> CompiledKernel:
    return CompiledKernel("nms", "// PTX", "sm_80", 4, shared_bytes, (), {})


def test_launches_inputs_then_scalars_then_outputs(calls: list[tuple[Any, ...]]) -> None:
    loaded = LoadedKernel(kernel())
    loaded.launch(Launch(grid=(6, 2, 1), scalars=(7, 8)), [100, 200], [300], stream=5)
    assert calls[:2] == [("load", b"// PTX\0"), ("get", "module", b"nms")]
    parameters = ((100, 200, 7, 8, 300), (c_void_p, c_void_p, c_int32, c_int32, c_void_p))
    assert calls[2:] == [("launch", "function", 6, 2, 1, 128, 1, 1, 128, 5, parameters, 0)]


def test_nothing_to_do_is_not_launched(calls: list[tuple[Any, ...]]) -> None:
    loaded = LoadedKernel(kernel())
    loaded.launch(Launch(grid=(0, 2, 1), scalars=()), [1], [2], stream=0)
    assert [name for name, *_ in calls] == ["load", "get"]


def test_much_shared_memory_is_asked_for(calls: list[tuple[Any, ...]]) -> None:
    loaded = LoadedKernel(kernel(shared_bytes=64 * 1024))
    assert loaded and [(name, arguments[-1]) for name, *arguments in calls[2:]] == [("set", 64 * 1024)]


def test_a_kernel_that_is_not_used_any_more_is_unloaded(calls: list[tuple[Any, ...]]) -> None:
    loaded = [LoadedKernel(kernel()), LoadedKernel(kernel())]
    loaded[0].launch(Launch(grid=(1, 1, 1), scalars=()), [1], [2], stream=0)
    assert [name for name, *_ in calls] == ["load", "get", "load", "get", "launch"]
    loaded.pop()
    assert calls[5:] == [("unload", "module")]
    loaded.clear()
    assert calls[5:] == [("unload", "module")] * 2


def test_a_kernel_that_can_not_be_used_is_unloaded(
    calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = sys.modules["cuda.bindings.driver"]
    monkeypatch.setattr(driver, "cuModuleGetFunction", lambda *_: (Result.CUDA_ERROR_UNKNOWN, None))
    with pytest.raises(RuntimeUnavailableError, match=r"cuModuleGetFunction failed .*UNKNOWN\): check the GPU"):
        LoadedKernel(kernel())
    gc.collect()
    assert calls == [("load", b"// PTX\0"), ("unload", "module")]


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (Result.CUDA_ERROR_NO_BINARY_FOR_GPU, "compute capability 8.0 or later"),
        (Result.CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "driver is too old, update it to 525"),
        (Result.CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, "restart the machine"),
        (Result.CUDA_ERROR_UNKNOWN, "check the GPU and its driver"),
    ],
)
def test_a_failure_says_what_to_do(
    calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, error: Result, remedy: str
) -> None:
    driver = sys.modules["cuda.bindings.driver"]
    monkeypatch.setattr(driver, "cuModuleLoadData", lambda _: (error, None))
    with pytest.raises(RuntimeUnavailableError, match=rf"cuModuleLoadData failed \({error.name}\): .*{remedy}"):
        LoadedKernel(kernel())
    assert not calls  # nothing to unload either


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch, calls: list[tuple[Any, ...]]) -> None:
    def missing(_: bytes) -> None:
        raise RuntimeError("Failed to dlopen libcuda.so.1")  # as the bindings do

    monkeypatch.setattr(sys.modules["cuda.bindings.driver"], "cuModuleLoadData", missing)
    with pytest.raises(RuntimeUnavailableError, match="NVIDIA driver is missing or too old: install"):
        LoadedKernel(kernel())
    assert not calls


def test_the_driver_has_the_functions_and_errors() -> None:
    from cuda.bindings import driver as real

    assert all(hasattr(real.CUresult, name) for name in REMEDIES)
    assert all(hasattr(real, name) for name in ("cuModuleLoadData", "cuModuleUnload", "cuModuleGetFunction"))


def test_missing_bindings_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(MissingExtraError, match=r"resnest-serving\[tensorrt\]"):
        LoadedKernel(kernel())
