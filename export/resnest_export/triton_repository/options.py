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
        ParameterError: the runtime doesn't run on CPUs.
    """

    platform: Platform = Platform.CPU
    runtime: str = "onnxruntime"
    """Runtime of the platform `cpu`."""
    threads: int = 0
    """Threads per network instance on the platform `cpu`; 0: an equal share of the CPUs available to Triton."""
    buckets: Buckets = Buckets.EXACT
    max_batch: int = 8
    queue_delay_microseconds: int = 5_000
    """Longest wait for a batch to fill."""
    timeout_microseconds: int = 60_000_000
    """Longest wait in a queue; a request can set a shorter time-out."""
    max_queue: int = 64
    preprocess_instances: int = 2
    network_instances: int = 1

    def __post_init__(self) -> None:
        if self.runtime not in runtimes_on("cpu"):
            raise ParameterError(
                f"Triton's Python backend has no runtime {self.runtime!r}: use {' or '.join(runtimes_on('cpu'))}."
            )

    @property
    def waste(self) -> float:
        """Limit of padding, see `resnest_core.buckets.WASTE`; infinite for TensorRT: engines run no unpadded shapes."""
        return math.inf if self.platform is Platform.TENSORRT else WASTE
