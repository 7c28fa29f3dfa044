"""Options of `resnest repository`: how Triton serves a model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from resnest_core.buckets import WASTE, Buckets
from resnest_core.errors import ParameterError
from resnest_core.runtimes import runtimes_on


class Platform(str, Enum):
    """Triton backend of the network."""

    CPU = "cpu"
    """Python backend with ONNX Runtime or OpenVINO; the only backend in the PyPI package of the server."""
    ONNXRUNTIME = "onnxruntime"
    """ONNX Runtime backend of the official container. Not tested yet."""
    TENSORRT = "tensorrt"
    """TensorRT backend of the official container; needs a GPU. Not tested yet."""


@dataclass(frozen=True)
class Serving:
    """Serving options of a model.

    Raises:
        ParameterError: the runtime doesn't run on CPUs, or CUDA graphs are asked for elsewhere than in TensorRT.
    """

    platform: Platform = Platform.CPU
    runtime: str = "onnxruntime"
    """Runtime of the platform `cpu`."""
    threads: int = 0
    """Threads per network instance on the platform `cpu`; 0: an equal share of the CPUs available to Triton."""
    buckets: Buckets = Buckets.EXACT
    max_batch: int = 8
    """Largest batch of the network, in images; preprocessing takes one image per call."""
    queue_delay_microseconds: int | None = None
    """Longest wait for a batch to fill; None: the platform's default, `delay_microseconds`."""
    timeout_microseconds: int = 60_000_000
    """Longest wait in a queue; a request can set a shorter time-out."""
    max_queue: int = 64
    preprocess_instances: int | None = None
    """Processes that decode and resize images; None: the platform's default, `preprocess_processes`."""
    network_instances: int = 1
    cuda_graphs: bool = False
    """Whether Triton captures CUDA graphs of an engine: with them it has answered with an earlier request's results
    (https://github.com/triton-inference-server/server/issues/8550)."""

    def __post_init__(self) -> None:
        if self.runtime not in runtimes_on("cpu"):
            raise ParameterError(
                f"Triton's Python backend has no runtime {self.runtime!r}: use {' or '.join(runtimes_on('cpu'))}."
            )
        if self.cuda_graphs and self.platform is not Platform.TENSORRT:
            raise ParameterError("CUDA graphs are of the platform tensorrt: add --platform tensorrt, or drop them.")

    @property
    def delay_microseconds(self) -> int:
        """Longest wait for a batch to fill: by default none for TensorRT, where batches form while a batch runs."""
        if self.queue_delay_microseconds is not None:
            return self.queue_delay_microseconds
        return 0 if self.platform is Platform.TENSORRT else 5_000

    @property
    def preprocess_processes(self) -> int:
        """Processes that decode and resize images: by default more for TensorRT, which waits for them otherwise."""
        if self.preprocess_instances is not None:
            return self.preprocess_instances
        return 4 if self.platform is Platform.TENSORRT else 2

    @property
    def waste(self) -> float:
        """Limit of padding, see `resnest_core.buckets.WASTE`; infinite for TensorRT: engines run no unpadded shapes."""
        return math.inf if self.platform is Platform.TENSORRT else WASTE
