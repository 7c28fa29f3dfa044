"""TensorRT and TensorRT-RTX behind one interface; the parts used here are protocols. Not run on a GPU yet."""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol

import numpy as np

from resnest_core.errors import InvalidModelError, MissingExtraError, RuntimeUnavailableError
from resnest_core.runtimes.tensorrt.cuda import Gpu
from resnest_core.runtimes.tensorrt.manifest import Flavour, Machine

log = logging.getLogger(__name__)

MODULES = {Flavour.TENSORRT: ("tensorrt", "tensorrt"), Flavour.RTX: ("tensorrt_rtx", "rtx")}
"""The module, and the extra that installs it."""
PLUGINS = "resnest.tensorrt_plugins"  # entry points: functions without arguments that register plugins


def load_library(flavour: Flavour) -> Any:
    """Import TensorRT or TensorRT-RTX.

    Raises:
        MissingExtraError: it isn't installed.
    """
    module, extra = MODULES[flavour]
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(flavour.library, extra) from error


class ExecutionContext(Protocol):
    """TensorRT's `IExecutionContext`: the state of an engine for one set of shapes."""

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool: ...
    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool: ...
    def set_tensor_address(self, name: str, memory: int) -> bool: ...
    def set_device_memory(self, memory: int, size: int) -> None: ...
    def infer_shapes(self) -> list[str]: ...
    def execute_async_v3(self, stream_handle: int) -> bool: ...


class CudaEngine(Protocol):
    """TensorRT's `ICudaEngine`."""

    @property
    def num_io_tensors(self) -> int: ...
    @property
    def num_optimization_profiles(self) -> int: ...
    @property
    def device_memory_size_v2(self) -> int: ...
    def get_tensor_name(self, index: int) -> str: ...
    def get_tensor_dtype(self, name: str) -> Any: ...
    def get_tensor_mode(self, name: str) -> Any: ...
    def create_execution_context(self, how: Any) -> ExecutionContext: ...


class TensorRtLibrary:
    """One of the two libraries; `module` is `tensorrt` or `tensorrt_rtx`."""

    def __init__(self, module: Any, flavour: Flavour) -> None:
        self._module = module
        self.flavour = flavour

        class Logger(module.ILogger):  # type: ignore[misc]
            """Forwards TensorRT's messages to Python's logging."""

            def __init__(self) -> None:
                module.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                log.log(LEVELS.get(severity.name, logging.DEBUG), "TensorRT: %s", message)

        self._logger = Logger()

    @classmethod
    def load(cls, flavour: Flavour) -> TensorRtLibrary:
        """Import the library.

        Raises:
            MissingExtraError: it isn't installed.
        """
        return cls(load_library(flavour), flavour)

    @property
    def captures_by_itself(self) -> bool:
        """Whether the library itself makes CUDA graphs: TensorRT-RTX can, once a shape's kernels are compiled."""
        return self.flavour is Flavour.RTX

    def machine(self, gpu: Gpu) -> Machine:
        """Return the machine that engines run on."""
        return Machine(
            tensorrt_flavour=self.flavour,
            tensorrt_version=self._module.__version__,
            gpu_name=gpu.name,
            compute_capability=gpu.compute_capability,
            cuda_version=gpu.cuda_version,
        )

    def load_engine(self, plan: bytes, *, version_compatible: bool) -> CudaEngine:
        """Return the engine that `plan` holds.

        Raises:
            InvalidModelError: TensorRT can't read it.
            MissingExtraError: a package that the plugins need isn't installed.
        """
        if self.flavour is Flavour.RTX:
            register_plugins()
        runtime = self._module.Runtime(self._logger)
        # A version-compatible engine contains the library that runs it.
        runtime.engine_host_code_allowed = version_compatible
        engine: CudaEngine | None = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise InvalidModelError(f"{self.flavour.library} can't read the engine, its log says why: export it again.")
        return engine

    def create_context(self, engine: CudaEngine, *, cuda_graphs: bool) -> ExecutionContext:
        """Return a context that is given its device memory, so that several can share it.

        `cuda_graphs` is of TensorRT-RTX: whether it makes CUDA graphs.

        Raises:
            RuntimeUnavailableError: TensorRT has no memory for it.
        """
        managed = self._module.ExecutionContextAllocationStrategy.USER_MANAGED
        if self.flavour is Flavour.RTX:
            how = engine.create_runtime_config()  # type: ignore[attr-defined]
            how.set_execution_context_allocation_strategy(managed)
            strategies = self._module.CudaGraphStrategy
            how.cuda_graph_strategy = strategies.WHOLE_GRAPH_CAPTURE if cuda_graphs else strategies.DISABLED
        else:
            how = managed
        context = engine.create_execution_context(how)
        if context is None:
            raise RuntimeUnavailableError("TensorRT can't make an execution context, its log says why.")
        return context

    def tensor_types(self, engine: CudaEngine) -> tuple[dict[str, np.dtype[Any]], dict[str, np.dtype[Any]]]:
        """Return the names and types of an engine's inputs and outputs."""
        inputs: dict[str, np.dtype[Any]] = {}
        outputs: dict[str, np.dtype[Any]] = {}
        for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
            is_input = engine.get_tensor_mode(name) == self._module.TensorIOMode.INPUT
            (inputs if is_input else outputs)[name] = np.dtype(self._module.nptype(engine.get_tensor_dtype(name)))
        return inputs, outputs


def register_plugins() -> None:
    """Register the plugins that a TensorRT-RTX engine looks up: it finds those of `resnest_export` by entry point.

    An engine of TensorRT itself holds the plugins' kernels, and needs none.

    Raises:
        MissingExtraError: a package that they need isn't installed.
    """
    for entry in entry_points(group=PLUGINS):
        try:
            entry.load()()
        except ImportError as error:
            raise MissingExtraError(error.name or entry.name, "export") from error


LEVELS = {
    "INTERNAL_ERROR": logging.ERROR,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "INFO": logging.DEBUG,  # many lines an engine
}
