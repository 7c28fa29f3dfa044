"""Runtimes by name. Each lives in a file of its own and imports its package only when it is used."""

from resnest_core.runtimes.base import Runtime
from resnest_core.runtimes.fake import FakeRuntime
from resnest_core.runtimes.onnxruntime_runtime import OnnxRuntime
from resnest_core.runtimes.openvino_runtime import OpenVinoRuntime

RUNTIMES: dict[str, type[Runtime]] = {
    OnnxRuntime.name: OnnxRuntime,
    OpenVinoRuntime.name: OpenVinoRuntime,
}

__all__ = ["RUNTIMES", "FakeRuntime", "OnnxRuntime", "OpenVinoRuntime", "Runtime"]
