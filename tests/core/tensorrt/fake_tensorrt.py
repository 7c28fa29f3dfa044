"""TensorRT without a GPU: its module, with an engine that answers as `FakeRuntime` does, on a `FakeCuda`'s memory.

It holds its users to TensorRT's rules: shapes within the profile, memory set, no capture before a plain run.
"""

from __future__ import annotations

import ctypes
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnest_core import tensors
from resnest_core.card import ModelCard
from resnest_core.runtimes.fake import FAKE_CARD, FakeRuntime
from resnest_core.runtimes.tensorrt.manifest import EngineProfile
from resnest_core.tensors import input_names, output_names, output_shapes
from tests.core.tensorrt.fake_cuda import FakeCuda
from tests.core.tensorrt.manifests import MACHINE, PROFILES

PLAN = b"an engine"
Types = dict[str, type[np.generic]]


class FakeLogger:
    def __init__(self) -> None: ...


class FakeContext:
    """TensorRT's `IExecutionContext`."""

    def __init__(self, engine: FakeEngine, how: Any) -> None:
        self.engine = engine
        self.how = how
        self.profile = 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.scratch: tuple[int, int] | None = None
        self.ran_plainly = False

    def set_device_memory(self, memory: int, size: int) -> None:
        self.scratch = memory, size

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        assert stream_handle in self.engine.cuda.streams
        self.profile = profile_index
        return 0 <= profile_index < len(self.engine.profiles)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name in self.engine.inputs
        self.shapes[name] = shape
        return name != tensors.IMAGES or self.engine.profiles[self.profile].holds((shape[0], shape[1], shape[2]))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert memory in self.engine.cuda.gpu
        self.addresses[name] = memory
        return True

    def infer_shapes(self) -> list[str]:
        return [name for name in self.engine.inputs if name not in self.shapes]

    def execute_async_v3(self, stream_handle: int) -> bool:
        stream = self.engine.cuda.streams[stream_handle]
        assert (
            self.scratch is not None and len(self.engine.cuda.gpu[self.scratch[0]]) >= self.engine.device_memory_size_v2
        )
        assert stream.captured is None or self.ran_plainly, "captured before a plain run"
        assert stream.captured is None or self.engine.is_captured, "TensorRT-RTX captures by itself"
        if stream.captured is not None and not self.engine.can_be_captured:
            return False
        self.ran_plainly = True
        self.engine.executions += 1
        stream.add(self._compute)
        return not self.engine.fails

    def _memory(self, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = self.engine.cuda.gpu[self.addresses[name]]
        assert len(memory) >= size
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_buffer(memory)).view(dtype).reshape(shape)

    def _compute(self) -> None:
        engine = self.engine
        inputs = {name: self._memory(name, self.shapes[name], dtype).copy() for name, dtype in engine.inputs.items()}
        batch = len(inputs[tensors.IMAGES])
        assert {len(each) for each in inputs.values()} == {batch}
        assert (inputs[tensors.IMAGE_SIZES] > 0).all(), "a row without a size"
        for name, array in engine.answers.run({tensors.WANT_MASKS: np.ones((batch, 1), bool)} | inputs).items():
            shape = (batch, *output_shapes(engine.card.max_detections, engine.card.mask_size)[name])
            self._memory(name, shape, engine.outputs[name])[:] = array


class FakeEngine:
    """TensorRT's `ICudaEngine`."""

    def __init__(self, cuda: FakeCuda, card: ModelCard, profiles: tuple[EngineProfile, ...]) -> None:
        self.cuda = cuda
        self.card = card
        self.profiles = profiles
        self.inputs: Types = {name: tensors.INPUT_TYPES[name] for name in input_names(card.has_masks)}
        self.outputs: Types = {name: tensors.OUTPUT_TYPES[name] for name in output_names(card.has_masks)}
        self.answers = FakeRuntime(card)
        self.contexts: list[FakeContext] = []
        self.executions = 0
        self.can_be_captured = True
        self.is_captured = True
        self.fails = False
        self.device_memory_size_v2 = 1000

    @property
    def num_io_tensors(self) -> int:
        return len(self.inputs) + len(self.outputs)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.profiles)

    def get_tensor_name(self, index: int) -> str:
        return [*self.inputs, *self.outputs][index]

    def get_tensor_dtype(self, name: str) -> Any:
        return (self.inputs | self.outputs)[name]

    def get_tensor_mode(self, name: str) -> Any:
        return FakeTensorRt.TensorIOMode.INPUT if name in self.inputs else FakeTensorRt.TensorIOMode.OUTPUT

    def create_runtime_config(self) -> Any:
        config = SimpleNamespace(cuda_graph_strategy=None, strategy=None)
        config.set_execution_context_allocation_strategy = lambda strategy: setattr(config, "strategy", strategy)
        return config

    def create_execution_context(self, how: Any) -> FakeContext:
        self.contexts.append(FakeContext(self, how))
        return self.contexts[-1]


class FakeTensorRt:
    """The module `tensorrt`, or `tensorrt_rtx`; `engine` is what every plan holds."""

    ILogger = FakeLogger
    TensorIOMode = Enum("TensorIOMode", "INPUT OUTPUT")
    ExecutionContextAllocationStrategy = Enum("ExecutionContextAllocationStrategy", "STATIC USER_MANAGED")
    CudaGraphStrategy = Enum("CudaGraphStrategy", "DISABLED WHOLE_GRAPH_CAPTURE")

    def __init__(
        self, cuda: FakeCuda, card: ModelCard = FAKE_CARD, profiles: tuple[EngineProfile, ...] = PROFILES
    ) -> None:
        self.__version__ = MACHINE.tensorrt_version
        self.engine = FakeEngine(cuda, card, profiles)
        self.runtimes: list[SimpleNamespace] = []

    def Runtime(self, logger: FakeLogger) -> SimpleNamespace:  # noqa: N802
        runtime = SimpleNamespace(engine_host_code_allowed=None, logger=logger)
        runtime.deserialize_cuda_engine = lambda plan: self.engine if plan == PLAN else None
        self.runtimes.append(runtime)
        return runtime

    @staticmethod
    def nptype(dtype: Any) -> Any:
        return dtype
