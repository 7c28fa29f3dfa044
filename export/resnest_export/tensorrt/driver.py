"""Loads and launches a kernel's PTX through the CUDA driver API. Not yet tested on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_int32, c_void_p
from typing import Any

from resnest_core.errors import MissingExtraError, RuntimeUnavailableError
from resnest_export.kernels.compiling import CompiledKernel
from resnest_export.kernels.launching import Launch

STATIC_SHARED_BYTES = 48 * 1024  # a larger size must be set as an attribute of the function


class LoadedKernel:
    """A kernel loaded into the CUDA context of the calling thread.

    Raises:
        MissingExtraError: CUDA's bindings aren't installed.
        RuntimeUnavailableError: there is no GPU, or it is too old for the kernel.
    """

    def __init__(self, kernel: CompiledKernel) -> None:
        try:
            from cuda.bindings import driver
        except ImportError as error:
            raise MissingExtraError("cuda-bindings", "tensorrt") from error
        self._driver = driver
        self._kernel = kernel
        # The driver expects a NUL-terminated string.
        self._module = self._call("cuModuleLoadData", kernel.ptx.encode() + b"\0")
        self._function = self._call("cuModuleGetFunction", self._module, kernel.name.encode())
        if kernel.shared_bytes > STATIC_SHARED_BYTES:
            most = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            self._call("cuFuncSetAttribute", self._function, most, kernel.shared_bytes)

    def launch(self, launch: Launch, inputs: Sequence[int], outputs: Sequence[int], stream: int) -> None:
        """Launch the kernel asynchronously on a stream; `inputs` and `outputs` are device addresses.

        Raises:
            RuntimeUnavailableError: the driver rejects the launch.
        """
        if 0 in launch.grid:
            return
        values = (*inputs, *launch.scalars, *outputs)
        types = (*[c_void_p] * len(inputs), *[c_int32] * len(launch.scalars), *[c_void_p] * len(outputs))
        block = (self._kernel.threads, 1, 1)
        shared = self._kernel.shared_bytes
        self._call("cuLaunchKernel", self._function, *launch.grid, *block, shared, stream, (values, types), 0)

    def _call(self, name: str, *arguments: Any) -> Any:
        error, *values = getattr(self._driver, name)(*arguments)
        if error != self._driver.CUresult.CUDA_SUCCESS:
            raise RuntimeUnavailableError(f"CUDA's {name} failed ({error.name}): check the GPU and its driver.")
        return values[0] if values else None
