"""Runtimes by name. Each lives in a file of its own and imports its package only when it is used."""

from importlib.util import find_spec
from typing import NamedTuple

from resnest_core.runtimes.base import Runtime
from resnest_core.runtimes.fake import FakeRuntime
from resnest_core.runtimes.onnxruntime_runtime import OnnxRuntime
from resnest_core.runtimes.openvino_runtime import OpenVinoRuntime
from resnest_core.runtimes.tensorrt.runtime import TensorRtRuntime

RUNTIMES: dict[str, type[Runtime]] = {
    OnnxRuntime.name: OnnxRuntime,
    OpenVinoRuntime.name: OpenVinoRuntime,
    TensorRtRuntime.name: TensorRtRuntime,
}
CPU_RUNTIMES = {name: kind for name, kind in RUNTIMES.items() if kind is not TensorRtRuntime}


class Pick(NamedTuple):
    """A runtime's name, and why it was picked."""

    name: str
    reason: str


def fastest_runtime(device: str) -> Pick:
    """Return the runtime that is the fastest of those installed, by docs/performance.md, at the same answers.

    TensorRT is never picked unasked: it has not been run yet.
    """
    if device != "cpu":
        return Pick(OnnxRuntime.name, f"it is the one that runs on {device}")
    if find_spec("openvino") and find_spec("onnx"):
        return Pick(OpenVinoRuntime.name, "on CPUs it takes less time than ONNX Runtime")
    return Pick(OnnxRuntime.name, "OpenVINO, which takes less time on CPUs, isn't installed: the extra openvino has it")


__all__ = [
    "CPU_RUNTIMES",
    "RUNTIMES",
    "FakeRuntime",
    "OnnxRuntime",
    "OpenVinoRuntime",
    "Pick",
    "Runtime",
    "TensorRtRuntime",
    "fastest_runtime",
]
