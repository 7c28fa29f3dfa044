"""The machine's GPU and installed packages."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from resnest_core.errors import ResNeStError
from resnest_core.runtimes.tensorrt.cuda import Cuda, Gpu
from tools.gpu_check.outcome import Outcome, State

PACKAGES = ("torch", "triton", "tensorrt", "tensorrt-rtx-cu13", "onnxruntime", "onnxruntime-gpu", "cuda-bindings")
NO_GPU = "there is no GPU here"


def gpu() -> Gpu | None:
    """Return the GPU; None: there is none that CUDA can use."""
    try:
        return Cuda.load().gpu()
    except ResNeStError:
        return None


def describe() -> Outcome:
    """Return the GPU and the versions of what is installed, as the table's first row."""
    installed = []
    for package in PACKAGES:
        try:
            installed.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    try:
        found = Cuda.load().gpu()
    except ResNeStError as error:
        return Outcome("GPU", State.NOT_RUN, f"{error} {', '.join(installed)}")
    what = f"{found.name}, compute capability {found.compute_capability}, CUDA {found.cuda_version}"
    return Outcome("GPU", State.PASSED, f"{what}; {', '.join(installed)}")
