"""How Triton serves a model: the options of `resnest repository`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from resnest_core.buckets import WASTE, Buckets
from resnest_core.errors import ParameterError
from resnest_core.runtimes import runtimes_on


class Platform(str, Enum):
    """What runs the network in Triton."""

    CPU = "cpu"
    """The Python backend with ONNX Runtime or OpenVINO: all that the server from the package index has."""
    ONNXRUNTIME = "onnxruntime"
    """Triton's own ONNX Runtime, of the official container. Not run yet."""
    TENSORRT = "tensorrt"
    """Triton's own TensorRT, of the official container, with a GPU. Not run yet."""


@dataclass(frozen=True)
class Serving:
    """How a model is served.

    Raises:
        ParameterError: the runtime isn't one that runs on CPUs.
    """

    platform: Platform = Platform.CPU
    runtime: str = "onnxruntime"
    """Of the platform `cpu`: one that runs on CPUs."""
    threads: int = 0
    """Of each instance of the network on the platform `cpu`; 0: its share of the CPUs that Triton may use."""
    buckets: Buckets = Buckets.EXACT
    max_batch: int = 8
    queue_delay_microseconds: int = 5_000
    """How long a request waits for others to share its batch."""
    timeout_microseconds: int = 60_000_000
    """How long a request may wait in a queue; its own time-out may be shorter."""
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
        """See `resnest_core.buckets.WASTE`: a TensorRT engine of buckets runs no other shapes, so nothing is waste."""
        return math.inf if self.platform is Platform.TENSORRT else WASTE
