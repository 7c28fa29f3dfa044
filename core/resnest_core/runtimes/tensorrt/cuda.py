"""The calls of CUDA's runtime that a TensorRT engine needs; CUDA's errors become exceptions. Not run on a GPU yet."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from resnest_core.errors import MissingExtraError, RuntimeUnavailableError
from resnest_core.runtimes.tensorrt.missing_gpu import error_words, why_no_gpu, words


class Gpu(NamedTuple):
    """The GPU that is used: the first that CUDA shows, which `CUDA_VISIBLE_DEVICES` chooses."""

    name: str
    compute_capability: str
    cuda_version: str
    """The newest that its driver runs."""


class Cuda:
    """CUDA's runtime: `api` is the module `cuda.bindings.runtime`, whose functions return an error and their values.

    Every method but those that free raises RuntimeUnavailableError where CUDA reports an error.
    """

    def __init__(self, api: Any) -> None:
        self._api = api

    @classmethod
    def load(cls) -> Cuda:
        """Return CUDA's runtime.

        Raises:
            MissingExtraError: its bindings aren't installed.
        """
        try:
            from cuda.bindings import runtime
        except ImportError as error:
            raise MissingExtraError("cuda-bindings", "tensorrt") from error
        return cls(runtime)

    def gpu(self) -> Gpu:
        """Return the GPU's name, compute capability and CUDA version.

        Raises:
            RuntimeUnavailableError: there is none, or no driver that these bindings can use; see `why_no_gpu`.
        """
        error, count = self._api.cudaGetDeviceCount()
        if error != self._api.cudaError_t.cudaSuccess or not count:
            raise RuntimeUnavailableError(why_no_gpu(self._api, error))
        properties = self._call("cudaGetDeviceProperties", 0)
        return Gpu(
            name=properties.name.decode().rstrip("\0"),
            compute_capability=f"{properties.major}.{properties.minor}",
            cuda_version=words(self._call("cudaDriverGetVersion")),
        )

    def attribute(self, name: str) -> int:
        """Return an attribute of the GPU, such as `cudaDevAttrMultiProcessorCount`."""
        return int(self._call("cudaDeviceGetAttribute", getattr(self._api.cudaDeviceAttr, name), 0))

    def free_bytes(self) -> int:
        """Return how much of the GPU's memory nothing uses."""
        return int(self._call("cudaMemGetInfo"))

    def create_stream(self) -> Any:
        """Return a new stream, which doesn't wait for the default one."""
        return self._call("cudaStreamCreateWithFlags", self._api.cudaStreamNonBlocking)

    def allocate(self, size: int) -> int:
        """Return the address of `size` bytes on the GPU."""
        return int(self._call("cudaMalloc", size))

    def allocate_pinned(self, size: int) -> NDArray[np.uint8]:
        """Return `size` bytes of page-locked memory, which the GPU copies from and to by itself."""
        address = int(self._call("cudaHostAlloc", size, self._api.cudaHostAllocDefault))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def copy_to_gpu(self, address: int, array: NDArray[Any], stream: Any) -> None:
        """Enqueue a copy from pinned memory to the GPU."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, stream)

    def copy_from_gpu(self, array: NDArray[Any], address: int, stream: Any) -> None:
        """Enqueue a copy from the GPU to pinned memory."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, kind, stream)

    def synchronize(self, stream: Any) -> None:
        """Wait until all work on the stream has finished."""
        self._call("cudaStreamSynchronize", stream)

    def capture(self, stream: Any, begin: Callable[[], None]) -> Any:
        """Capture the work that `begin` enqueues, without running it, and return it as a graph for `launch`."""
        # Other threads may allocate memory at the same time: only this thread's calls are watched.
        self._call("cudaStreamBeginCapture", stream, self._api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        try:
            begin()
        except BaseException:
            self._api.cudaStreamEndCapture(stream)  # it reports the same failure again
            raise
        graph = self._call("cudaStreamEndCapture", stream)
        try:
            return self._call("cudaGraphInstantiate", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, graph: Any, stream: Any) -> None:
        """Enqueue a captured graph."""
        self._call("cudaGraphLaunch", graph, stream)

    def free(self, address: int) -> None:
        """Free memory on the GPU."""
        self._release("cudaFree", address)

    def free_pinned(self, array: NDArray[np.uint8]) -> None:
        """Free page-locked memory; the array must not be used afterwards."""
        self._release("cudaFreeHost", array.ctypes.data)

    def free_graph(self, graph: Any) -> None:
        """Destroy a captured graph."""
        self._release("cudaGraphExecDestroy", graph)

    def free_stream(self, stream: Any) -> None:
        """Destroy a stream."""
        self._release("cudaStreamDestroy", stream)

    def _call(self, name: str, *arguments: Any) -> Any:
        error, *values = getattr(self._api, name)(*arguments)
        if error == self._api.cudaError_t.cudaSuccess:
            return values[0] if values else None
        if error == self._api.cudaError_t.cudaErrorMemoryAllocation:
            raise RuntimeUnavailableError(
                "The GPU has too little free memory: end what else uses it, or export the engine for smaller batches."
            )
        reason = error_words(self._api, error)
        raise RuntimeUnavailableError(
            f"CUDA's {name} failed ({reason}): restart this process, and report it if it happens again."
        )

    def _release(self, name: str, what: Any) -> None:
        """Give back; after an error CUDA refuses that too, and the first error is the one to tell."""
        getattr(self._api, name)(what)
