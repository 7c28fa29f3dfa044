"""A kernel's PTX started through CUDA's driver, without Triton and PyTorch: as an engine starts it. Not run yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from resnest_core.runtimes.tensorrt.cuda import Cuda
from resnest_export.kernels.compiling import CompiledKernel
from resnest_export.tensorrt.driver import LoadedKernel
from tools.gpu_check.cases import Case

TIMED = 20  # launches

Load = Callable[[CompiledKernel], LoadedKernel]


def run(case: Case, cuda: Cuda, load: Load = LoadedKernel) -> tuple[Sequence[Tensor], str]:
    """Run a case, and return its outputs and how long a launch takes.

    Raises:
        RuntimeUnavailableError: CUDA reports an error.
    """
    stream = cuda.create_stream()
    tensors = (*case.inputs, *case.outputs)
    bytes_of = [tensor.contiguous().flatten().view(torch.uint8) for tensor in tensors]
    pinned = [cuda.allocate_pinned(len(each)) for each in bytes_of]
    on_gpu = [cuda.allocate(len(each)) for each in bytes_of]
    inputs, outputs = on_gpu[: len(case.inputs)], on_gpu[len(case.inputs) :]
    try:
        for host, address, content in zip(pinned, on_gpu, bytes_of, strict=True):
            host[:] = content.numpy()
            cuda.copy_to_gpu(address, host, stream)
        kernel = load(case.compile())
        kernel.launch(case.launch, inputs, outputs, int(stream))
        for host, address in zip(pinned[len(inputs) :], outputs, strict=True):
            cuda.copy_from_gpu(host, address, stream)
        cuda.synchronize(stream)
        answers = [
            torch.from_numpy(host.copy()).view(tensor.dtype).reshape(tensor.shape)
            for host, tensor in zip(pinned[len(inputs) :], case.outputs, strict=True)
        ]
        begin = time.perf_counter()
        for _ in range(TIMED):
            kernel.launch(case.launch, inputs, outputs, int(stream))
        cuda.synchronize(stream)
        seconds = (time.perf_counter() - begin) / TIMED
    finally:
        for address in on_gpu:
            cuda.free(address)
        for host in pinned:
            cuda.free_pinned(host)
        cuda.free_stream(stream)
    return answers, f", {seconds * 1e6:.0f} µs a launch"
