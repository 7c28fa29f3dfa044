"""CUDA's runtime without a GPU: what is put on a stream is run when somebody waits for it, as the strictest GPU would.

The functions have the names, arguments and answers of `cuda.bindings.runtime`; `log` holds what was called.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from types import MappingProxyType, SimpleNamespace
from typing import Any

Work = Callable[[], object]
SUCCESS, NO_MEMORY, ILLEGAL = 0, 2, 700


class Stream:
    """Work that waits, or what is captured."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.waiting: list[Work] = []
        self.captured: list[Work] | None = None

    def __int__(self) -> int:
        return self.number

    def add(self, work: Work) -> None:
        (self.waiting if self.captured is None else self.captured).append(work)


class FakeCuda:
    """`fail[name]` is the error that a function reports; `free_bytes` is what the GPU has."""

    cudaStreamNonBlocking = 1  # noqa: N815
    cudaHostAllocDefault = 0  # noqa: N815
    cudaError_t = SimpleNamespace(  # noqa: N815
        cudaSuccess=SUCCESS,
        cudaErrorMemoryAllocation=NO_MEMORY,
        cudaErrorInitializationError=3,
        cudaErrorInsufficientDriver=35,
        cudaErrorNoDevice=100,
        cudaErrorSystemNotReady=802,
        cudaErrorSystemDriverMismatch=803,
        cudaErrorCompatNotSupportedOnDevice=804,
    )
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)  # noqa: N815

    cudaDeviceAttr = SimpleNamespace(  # noqa: N815
        cudaDevAttrClockRate="clock",
        cudaDevAttrMemoryClockRate="memory clock",
        cudaDevAttrGlobalMemoryBusWidth="bus",
        cudaDevAttrMultiProcessorCount="multiprocessors",
    )
    # An L4's: kHz, kHz, bits.
    ATTRIBUTES = MappingProxyType({"clock": 2_040_000, "memory clock": 6_251_000, "bus": 192, "multiprocessors": 58})

    def __init__(self, *, devices: int = 1, free_bytes: int = 1 << 30) -> None:
        self.devices = devices
        self.driver_version, self.runtime_version = 13020, 13000
        self.free_bytes = free_bytes
        self.fail: dict[str, int] = {}
        self.log: list[str] = []
        self.streams: dict[int, Stream] = {}
        self.gpu: dict[int, Any] = {}
        self.pinned: dict[int, Any] = {}
        self.graphs: list[list[Work]] = []
        self.capturing: Stream | None = None

    def _do(self, name: str) -> int:
        self.log.append(name)
        return self.fail.get(name, SUCCESS)

    def cudaGetDeviceCount(self) -> tuple[int, int]:  # noqa: N802
        return self._do("cudaGetDeviceCount"), self.devices

    def cudaDriverGetVersion(self) -> tuple[int, int]:  # noqa: N802
        return self._do("cudaDriverGetVersion"), self.driver_version

    def cudaRuntimeGetVersion(self) -> tuple[int, int]:  # noqa: N802
        return self._do("cudaRuntimeGetVersion"), self.runtime_version

    def cudaGetDeviceProperties(self, device: int) -> tuple[int, Any]:  # noqa: N802
        assert device == 0
        return self._do("cudaGetDeviceProperties"), SimpleNamespace(name=b"NVIDIA L4\0\0", major=8, minor=9)

    def cudaDeviceGetAttribute(self, attribute: str, device: int) -> tuple[int, int]:  # noqa: N802
        assert device == 0
        return self._do("cudaDeviceGetAttribute"), self.ATTRIBUTES[attribute]

    def cudaMemGetInfo(self) -> tuple[int, int, int]:  # noqa: N802
        used = sum(map(len, self.gpu.values()))
        return self._do("cudaMemGetInfo"), self.free_bytes - used, self.free_bytes

    def cudaGetErrorString(self, error: int) -> tuple[int, bytes]:  # noqa: N802
        known = {
            3: b"initialization error",
            100: b"no device",
            ILLEGAL: b"an illegal memory access was encountered",
            802: b"system not yet initialized",
        }
        return SUCCESS, known[error]

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[int, Stream]:  # noqa: N802
        assert flags == self.cudaStreamNonBlocking
        stream = Stream(len(self.streams) + 7)
        self.streams[int(stream)] = stream
        return self._do("cudaStreamCreateWithFlags"), stream

    def cudaStreamDestroy(self, stream: Stream) -> tuple[int]:  # noqa: N802
        del self.streams[int(stream)]
        return (self._do("cudaStreamDestroy"),)

    def cudaMalloc(self, size: int) -> tuple[int, int]:  # noqa: N802
        if error := self._do("cudaMalloc"):
            return error, 0
        if sum(map(len, self.gpu.values())) + size > self.free_bytes:
            return NO_MEMORY, 0
        memory = (ctypes.c_uint8 * size)()
        self.gpu[ctypes.addressof(memory)] = memory
        return SUCCESS, ctypes.addressof(memory)

    def cudaFree(self, address: int) -> tuple[int]:  # noqa: N802
        del self.gpu[address]
        return (self._do("cudaFree"),)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[int, int]:  # noqa: N802
        assert flags == self.cudaHostAllocDefault
        memory = (ctypes.c_uint8 * size)()
        self.pinned[ctypes.addressof(memory)] = memory
        return self._do("cudaHostAlloc"), ctypes.addressof(memory)

    def cudaFreeHost(self, address: int) -> tuple[int]:  # noqa: N802
        del self.pinned[address]
        return (self._do("cudaFreeHost"),)

    def cudaMemcpyAsync(self, to: int, of: int, size: int, kind: int, stream: Stream) -> tuple[int]:  # noqa: N802
        gpu, host = (to, of) if kind == self.cudaMemcpyKind.cudaMemcpyHostToDevice else (of, to)
        assert len(self.gpu[gpu]) >= size and len(self.pinned[host]) >= size, "copied beyond what was allocated"
        stream.add(partial(ctypes.memmove, to, of, size))
        return (self._do("cudaMemcpyAsync"),)

    def cudaStreamSynchronize(self, stream: Stream) -> tuple[int]:  # noqa: N802
        assert stream.captured is None, "waiting ends a capture"
        error = self._do("cudaStreamSynchronize")
        waiting, stream.waiting = stream.waiting, []
        for work in waiting:
            work()
        return (error,)

    def cudaStreamBeginCapture(self, stream: Stream, mode: int) -> tuple[int]:  # noqa: N802
        assert mode == self.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        assert not stream.waiting, "the run before hasn't ended"
        stream.captured = []
        return (self._do("cudaStreamBeginCapture"),)

    def cudaStreamEndCapture(self, stream: Stream) -> tuple[int, Any]:  # noqa: N802
        graph, stream.captured = stream.captured, None
        return self._do("cudaStreamEndCapture"), graph

    def cudaGraphInstantiate(self, graph: list[Work], flags: int) -> tuple[int, Any]:  # noqa: N802
        assert flags == 0
        if error := self._do("cudaGraphInstantiate"):
            return error, None
        self.graphs.append(list(graph))
        return SUCCESS, self.graphs[-1]

    def cudaGraphDestroy(self, graph: list[Work]) -> tuple[int]:  # noqa: N802
        graph.clear()  # an instantiated graph lives on
        return (self._do("cudaGraphDestroy"),)

    def cudaGraphLaunch(self, graph: list[Work], stream: Stream) -> tuple[int]:  # noqa: N802
        assert any(graph is each for each in self.graphs), "that graph was given back"
        for work in graph:
            stream.add(work)
        return (self._do("cudaGraphLaunch"),)

    def cudaGraphExecDestroy(self, graph: list[Work]) -> tuple[int]:  # noqa: N802
        self.graphs[:] = [each for each in self.graphs if each is not graph]
        return (self._do("cudaGraphExecDestroy"),)

    def holds_nothing(self) -> bool:
        """Return whether everything was given back."""
        return not (self.gpu or self.pinned or self.graphs or self.streams)
