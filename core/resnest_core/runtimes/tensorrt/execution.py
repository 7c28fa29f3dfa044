"""An engine's memory, and its shapes: one set of buffers for all, a context and perhaps a CUDA graph for each.

NVIDIA's guide ("CUDA Graphs") sets the order: a graph belongs to one context whose shapes don't change any more, is
captured after a plain run, and contexts that don't run at the same time may share their memory. Not run on a GPU yet.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnest_core.errors import RuntimeUnavailableError
from resnest_core.runtimes.tensorrt.cuda import Cuda
from resnest_core.runtimes.tensorrt.library import CudaEngine, ExecutionContext, TensorRtLibrary
from resnest_core.runtimes.tensorrt.profile_selection import Fit

log = logging.getLogger(__name__)

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Buffer:
    """A tensor's memory, as large as any of its shapes needs: page-locked on the host, and on the GPU."""

    host: NDArray[np.uint8]
    gpu: int
    dtype: np.dtype[Any]

    def view(self, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return the beginning of the host's memory as a tensor."""
        return self.host[: math.prod(shape) * self.dtype.itemsize].view(self.dtype).reshape(shape)


class EngineMemory:
    """A stream, and buffers that are allocated once: one per tensor, and one for the engine's activations.

    Raises:
        RuntimeUnavailableError: the GPU has too little memory.
    """

    def __init__(self, cuda: Cuda, types: Mapping[str, np.dtype[Any]], largest: Shapes, scratch_size: int) -> None:
        self.cuda = cuda
        self.buffers: dict[str, Buffer] = {}
        self.scratch_size = scratch_size
        self.scratch: int | None = None
        self.stream = cuda.create_stream()
        try:
            self.scratch = cuda.allocate(max(scratch_size, 1))
            for name, shape in largest.items():
                size = math.prod(shape) * types[name].itemsize
                host = cuda.allocate_pinned(size)
                try:
                    self.buffers[name] = Buffer(host, cuda.allocate(size), types[name])
                except RuntimeUnavailableError:
                    cuda.free_pinned(host)
                    raise
        except RuntimeUnavailableError:
            self.close()
            raise

    def close(self) -> None:
        """Give everything back."""
        for buffer in self.buffers.values():
            self.cuda.free(buffer.gpu)
            self.cuda.free_pinned(buffer.host)
        self.buffers.clear()
        if self.scratch is not None:
            self.cuda.free(self.scratch)
            self.scratch = None
        self.cuda.free_stream(self.stream)


class ShapeExecution:
    """One shape: a context in which it is set and, with `cuda_graphs` and from the second run on, a CUDA graph.

    A graph holds the copies and the network. The first run is a plain one: TensorRT prepares a new shape in it, and
    that can't be captured.

    Raises:
        RuntimeUnavailableError: TensorRT refuses the shape, or has too little memory for it.
    """

    def __init__(
        self,
        library: TensorRtLibrary,
        engine: CudaEngine,
        memory: EngineMemory,
        fit: Fit,
        inputs: Shapes,
        outputs: Shapes,
        *,
        cuda_graphs: bool,
    ) -> None:
        self._memory = memory
        self._inputs = inputs
        self._outputs = outputs
        self._may_capture = cuda_graphs and not library.captures_by_itself
        self._graph: Any = None
        self._runs = 0
        self._context = library.create_context(engine, cuda_graphs=cuda_graphs)
        if not self._prepare(self._context, fit):
            raise RuntimeUnavailableError(
                f"TensorRT refuses images of shape {'×'.join(map(str, fit.shape_bhw))}, its log says why: "
                "export the engine again."
            )

    def _prepare(self, context: ExecutionContext, fit: Fit) -> bool:
        """Set memory, profile, shapes and addresses; return whether TensorRT takes them."""
        memory, stream = self._memory, int(self._memory.stream)
        assert memory.scratch is not None
        context.set_device_memory(memory.scratch, memory.scratch_size)
        try:
            return (
                context.set_optimization_profile_async(fit.profile, stream)
                and all(context.set_input_shape(name, shape) for name, shape in self._inputs.items())
                and all(context.set_tensor_address(name, each.gpu) for name, each in memory.buffers.items())
                and not context.infer_shapes()
            )
        except RuntimeError:  # sizes within the network that don't fit together
            return False

    def run(self) -> None:
        """Run the network on the input buffers, and wait until the output buffers are filled.

        Raises:
            RuntimeUnavailableError: CUDA or TensorRT reports an error.
        """
        cuda, stream = self._memory.cuda, self._memory.stream
        if self._graph is None and self._runs and self._may_capture:
            self._capture()
        if self._graph is None:
            self._begin()
        else:
            cuda.launch(self._graph, stream)
        cuda.synchronize(stream)
        self._runs += 1

    @property
    def is_captured(self) -> bool:
        """Whether the next run replays a CUDA graph."""
        return self._graph is not None

    def close(self) -> None:
        """Destroy the graph."""
        if self._graph is not None:
            self._memory.cuda.free_graph(self._graph)
            self._graph = None

    def _capture(self) -> None:
        try:
            self._graph = self._memory.cuda.capture(self._memory.stream, self._begin)
        except RuntimeUnavailableError as error:
            # Not every engine can be captured; each of them can be run.
            self._may_capture = False
            log.warning("The engine runs without CUDA graphs: %s", error)

    def _begin(self) -> None:
        memory = self._memory
        for name, shape in self._inputs.items():
            buffer = memory.buffers[name]
            memory.cuda.copy_to_gpu(buffer.gpu, buffer.view(shape), memory.stream)
        if not self._context.execute_async_v3(int(memory.stream)):
            raise RuntimeUnavailableError("TensorRT failed to run the engine, its log says why: restart this process.")
        for name, shape in self._outputs.items():
            buffer = memory.buffers[name]
            memory.cuda.copy_from_gpu(buffer.view(shape), buffer.gpu, memory.stream)
