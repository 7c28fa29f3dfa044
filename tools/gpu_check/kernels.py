"""The two kernels against their references: in the Triton language's interpreter, on a GPU, and as plain PTX.

The interpreter must be chosen before Triton is imported, so each way has a process of its own:
`TRITON_INTERPRET=1 python -m tools.gpu_check.kernels interpreter`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor

from resnest_core.errors import MissingExtraError, ResNeStError
from resnest_core.runtimes.tensorrt.cuda import Cuda
from tools.gpu_check import plain_ptx
from tools.gpu_check.cases import Case, large_cases, small_cases
from tools.gpu_check.machine import NO_GPU, gpu
from tools.gpu_check.outcome import failed, not_run, passed

Run = Callable[[Case], tuple[Sequence[Tensor], str]]
"""Returns a case's outputs, and what is to be said of the run."""


def check(title: str, cases: Iterable[Case], run: Run) -> None:
    """Run cases and compare them with their references."""
    for case in cases:
        name = f"{title}: {case.name}"
        try:
            outputs, remark = run(case)
            passed(name, case.judge(outputs) + remark)
        except (AssertionError, RuntimeError, ResNeStError) as error:
            failed(name, str(error))


def started_by_triton(device: str) -> Run:
    """Return what runs a case's kernel function on tensors of a device."""

    def run(case: Case) -> tuple[Sequence[Tensor], str]:
        from resnest_export.kernels import nms, roi_align

        kernel = getattr(nms if case.kernel == "batched_nms" else roi_align, case.kernel)
        options = {} if device == "cpu" else {"num_warps": case.compile().num_warps, "enable_fp_fusion": False}
        inputs, outputs = ([tensor.to(device, copy=True) for tensor in each] for each in (case.inputs, case.outputs))
        kernel[case.launch.grid](*inputs, *case.launch.scalars, *outputs, **case.constants, **options)
        return [tensor.cpu() for tensor in outputs], ""

    return run


def main(way: str) -> None:
    """Check the kernels in one way: `interpreter`, `triton` or `driver`."""
    title = {"interpreter": "interpreter", "triton": "Triton on the GPU", "driver": "PTX through the driver"}[way]
    try:
        import triton  # noqa: F401
    except ImportError:
        return not_run(title, str(MissingExtraError("triton", "tensorrt")))
    if way == "interpreter":
        assert os.environ["TRITON_INTERPRET"] == "1"
        return check(title, small_cases(), started_by_triton("cpu"))
    if gpu() is None:
        return not_run(title, NO_GPU)
    if way == "driver":
        return check(title, large_cases(), partial(plain_ptx.run, cuda=Cuda.load()))
    if not torch.cuda.is_available():
        return not_run(title, "this PyTorch has no CUDA")
    return check(title, large_cases(), started_by_triton("cuda"))


if __name__ == "__main__":
    main(sys.argv[1])
