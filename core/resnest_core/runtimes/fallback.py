"""TensorRT where it runs, else ONNX Runtime: for servers that shall answer on any machine."""

from __future__ import annotations

import logging
from pathlib import Path

from resnest_core.errors import MissingExtraError, ModelError, RuntimeUnavailableError
from resnest_core.runtimes.base import Runtime
from resnest_core.runtimes.onnxruntime_runtime import OnnxRuntime
from resnest_core.runtimes.tensorrt.runtime import TensorRtRuntime

log = logging.getLogger(__name__)

CANNOT_RUN = (ModelError, MissingExtraError, RuntimeUnavailableError)


def load_tensorrt_or_less(path: Path, *, threads: int | None = None, instances: int = 1) -> Runtime:
    """Load the engine beside the ONNX file at `path`, or that file in ONNX Runtime, on the GPU or at last on the CPU.

    The log says once what is taken, and why it isn't the engine.

    Raises:
        InvalidModelError, MissingExtraError, RuntimeUnavailableError: ONNX Runtime can't run the file either.
    """
    try:
        return TensorRtRuntime.load(path)
    except CANNOT_RUN as error:
        reason = error
    try:
        runtime = OnnxRuntime.load(path, device="cuda", threads=threads, instances=instances)
    except CANNOT_RUN:
        runtime = None
    device = "CPU" if runtime is None else "GPU"
    log.warning("%s runs in ONNX Runtime on the %s, without TensorRT: %s", path, device, reason)
    return runtime or OnnxRuntime.load(path, threads=threads, instances=instances)
