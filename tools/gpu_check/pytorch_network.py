"""A whole detector as engines compute it (fixed sizes, 16 bits where they have them), run by PyTorch on a device.

On a GPU the two operators are this project's kernels, maps have their channels last, and a CUDA graph can replay a run:
PyTorch and the Triton language are enough to verify kernels, fixed-size network and rounding there, without TensorRT.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from resnest_core import tensors
from resnest_core.card import ModelCard
from resnest_core.errors import RuntimeUnavailableError
from resnest_core.runtimes.base import Runtime
from resnest_core.tensors import Tensors
from resnest_export.deployed_detector import DeployedDetector
from resnest_export.models.detector import TwoStageDetector
from resnest_export.tensorrt.graph import fixed_size_network
from tools.gpu_check.triton_operators import kernels_in_models

WARM_UP = 3
"""Runs before a capture: kernels are compiled, algorithms chosen, and constants copied in them."""


class CopiedConstants(TorchFunctionMode):
    """Keeps the tensors that `Tensor.new_tensor` makes of numbers: copies from ordinary memory can't be captured."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[Any, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not Tensor.new_tensor:
            return func(*args, **kwargs)
        like, values = args
        key = (str(values), kwargs.get("dtype", like.dtype), like.device)
        if key not in self._kept:
            self._kept[key] = torch.tensor(values, dtype=key[1]).to(like.device)
        return self._kept[key]


class PyTorchRuntime(Runtime):
    """A detector in PyTorch, as a runtime: everything that takes one can be compared with it.

    Args:
        detector: an unmodified float32 detector; it isn't changed.
        card: its card.
        device: `cpu` or `cuda`.
        dtype: float32, or a 16-bit type where engines have it.
        kernels: whether the kernels compute the two operators; else the references.
        cuda_graph: whether runs after the first of a shape replay a CUDA graph.
    """

    name = "pytorch"
    title = "PyTorch"
    packages = ("torch",)
    devices = ("cpu", "cuda")

    def __init__(
        self,
        detector: TwoStageDetector,
        card: ModelCard,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        kernels: bool = False,
        cuda_graph: bool = False,
    ) -> None:
        self.card = card
        self.device = device
        self._network = deployed(detector, card, dtype, device)
        self._kernels = kernels
        self._cuda_graph = cuda_graph
        self._constants = CopiedConstants()
        self._graphs: dict[tuple[int, ...], CapturedNetwork] = {}

    @classmethod
    def load(cls, *_: Any, **__: Any) -> PyTorchRuntime:
        raise RuntimeUnavailableError("PyTorch runs a detector that is built, not a file: construct a PyTorchRuntime.")

    def run(self, inputs: Tensors) -> Tensors:
        names = tensors.input_names(self.card.has_masks)
        arrays = [torch.from_numpy(inputs[name]) for name in names]
        with self._computing():
            outputs = self._captured(arrays)(arrays) if self._cuda_graph else self._plain(arrays)
            return dict(
                zip(tensors.output_names(self.card.has_masks), (each.cpu().numpy() for each in outputs), strict=True)
            )

    def _plain(self, arrays: list[Tensor]) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self._network(*(array.to(self.device) for array in arrays))
        return outputs

    def _captured(self, arrays: list[Tensor]) -> CapturedNetwork:
        shape = tuple(arrays[0].shape)
        if shape not in self._graphs:
            self._graphs[shape] = CapturedNetwork(self._network, [array.to(self.device) for array in arrays])
        return self._graphs[shape]

    @contextmanager
    def _computing(self) -> Iterator[None]:
        with torch.inference_mode(), self._constants, without_tf32():
            if self._kernels:
                with kernels_in_models():
                    yield
            else:
                yield


class CapturedNetwork:
    """A CUDA graph of one shape, with its inputs and outputs."""

    def __init__(self, network: nn.Module, inputs: list[Tensor]) -> None:
        self._inputs = inputs
        # As PyTorch's documents ask: what comes before a capture runs on a stream of its own.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                network(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs: tuple[Tensor, ...] = network(*inputs)

    def __call__(self, arrays: list[Tensor]) -> tuple[Tensor, ...]:
        for tensor, array in zip(self._inputs, arrays, strict=True):
            tensor.copy_(array)
        self._graph.replay()
        return self._outputs


def deployed(detector: TwoStageDetector, card: ModelCard, dtype: torch.dtype, device: str) -> nn.Module:
    """Return the network that an engine is built from, on a device, with the channels last in memory."""
    network = DeployedDetector(fixed_size_network(detector, dtype), card)
    return network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute products of float32 without rounding their factors to TF32's 11 bits."""
    libraries: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [library.allow_tf32 for library in libraries]
    try:
        for library in libraries:
            library.allow_tf32 = False
        yield
    finally:
        for library, value in zip(libraries, before, strict=True):
            library.allow_tf32 = value
