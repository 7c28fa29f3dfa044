"""Loads and launches a kernel's PTX through the CUDA driver API. Not yet tested on a GPU."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from ctypes import c_int32, c_void_p
from typing import Any

from resnest_core.errors import MissingExtraError, RuntimeUnavailableError
from resnest_export.kernels.compiling import CompiledKernel
from resnest_export.kernels.launching import Launch

STATIC_SHARED_BYTES = 48 * 1024  # a larger size must be set as an attribute of the function


# CUDA's errors that have a cause of their own; the others are the GPU's or its driver's.
REMEDIES = {
    "CUDA_ERROR_NO_BINARY_FOR_GPU": "the GPU is too old, use one of compute capability 8.0 or later",
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": "the NVIDIA driver is too old, update it to 525 or later",
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "the NVIDIA driver's parts are of different versions, restart the machine",
    "CUDA_ERROR_OUT_OF_MEMORY": "the GPU has too little free memory, end what else uses it",
}


class LoadedKernel:
    """A kernel loaded into the CUDA context of the calling thread, and unloaded when nothing refers to it any more.

    Raises:
        MissingExtraError: CUDA's bindings aren't installed.
        RuntimeUnavailableError: there is no driver or GPU, or it is too old for the kernel.
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
        # Its error is not looked at: the context, and the module with it, may be gone already.
        weakref.finalize(self, driver.cuModuleUnload, self._module).atexit = False
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
        try:
            error, *values = getattr(self._driver, name)(*arguments)
        except RuntimeError as missing:  # the bindings load the driver at the first call
            raise RuntimeUnavailableError("The NVIDIA driver is missing or too old: install a newer one.") from missing
        if error != self._driver.CUresult.CUDA_SUCCESS:
            remedy = REMEDIES.get(error.name, "check the GPU and its driver")
            raise RuntimeUnavailableError(f"CUDA's {name} failed ({error.name}): {remedy}.")
        return values[0] if values else None
