"""How Triton serves a model: the options of `resnest repository`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from resnest_core.buckets import WASTE, Buckets


class Platform(str, Enum):
    """What runs the network in Triton."""

    CPU = "cpu"
    """The Python backend with ONNX Runtime or OpenVINO: all that the server from the package index has."""
    ONNXRUNTIME = "onnxruntime"
    """Triton's own ONNX Runtime, of the official container. Not run yet."""
    TENSORRT = "tensorrt"
    """Triton's own TensorRT, of the official container, with a GPU. Not run yet."""


class NetworkRuntime(str, Enum):
    """What the Python backend runs the network with."""

    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"


@dataclass(frozen=True)
class Serving:
    """How a model is served."""

    platform: Platform = Platform.CPU
    runtime: NetworkRuntime = NetworkRuntime.ONNXRUNTIME
    """Of the platform `cpu`."""
    threads: int = 0
    """Of each instance of the network on the platform `cpu`; 0: as many as there are cores."""
    buckets: Buckets = Buckets.EXACT
    max_batch: int = 8
    queue_delay_microseconds: int = 5_000
    """How long a request waits for others to share its batch."""
    timeout_microseconds: int = 60_000_000
    """How long a request may wait in a queue; its own time-out may be shorter."""
    max_queue: int = 64
    preprocess_instances: int = 2
    network_instances: int = 1

    @property
    def waste(self) -> float:
        """See `resnest_core.buckets.WASTE`: a TensorRT engine of buckets runs no other shapes, so nothing is waste."""
        return math.inf if self.platform is Platform.TENSORRT else WASTE
