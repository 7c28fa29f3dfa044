"""Runtimes by name, the preferred ones first. Each is one file, and imports its packages only when it is used."""

from typing import NamedTuple

from resnest_core.runtimes.base import Runtime
from resnest_core.runtimes.fake import FakeRuntime
from resnest_core.runtimes.onnxruntime_runtime import OnnxRuntime
from resnest_core.runtimes.openvino_runtime import OpenVinoRuntime
from resnest_core.runtimes.tensorrt.runtime import TensorRtRuntime

# In the order of preference: docs/performance.md has the figures.
RUNTIMES: dict[str, type[Runtime]] = {
    runtime.name: runtime for runtime in (OpenVinoRuntime, OnnxRuntime, TensorRtRuntime)
}


class Pick(NamedTuple):
    """A runtime's name, and why it was picked."""

    name: str
    reason: str


def devices() -> tuple[str, ...]:
    """Return the devices that any runtime runs on."""
    return tuple(dict.fromkeys(device for runtime in RUNTIMES.values() for device in runtime.devices))


def runtimes_on(device: str) -> dict[str, type[Runtime]]:
    """Return the runtimes that run on a device, by name."""
    return {name: runtime for name, runtime in RUNTIMES.items() if device in runtime.devices}


AUTOMATIC = ", ".join(name for name, runtime in RUNTIMES.items() if runtime.is_automatic)
"""The runtimes that may be picked unasked, for help texts."""


def preferred_runtime(device: str | None = None) -> Pick:
    """Return the first of the runtimes that are installed, run on the device and may be picked unasked.

    Where none is installed, the last of them: loading it says what to install.
    """
    device = device or devices()[0]
    candidates = {name: runtime for name, runtime in runtimes_on(device).items() if runtime.is_automatic}
    absent: list[str] = []
    for name, runtime in candidates.items():
        if runtime.is_installed():
            missing = f"; {' and '.join(absent)}, which would be preferred, isn't installed" if absent else ""
            return Pick(name, f"it is the first choice on {device} of those installed{missing}")
        absent.append(runtime.title)
    return Pick(list(candidates)[-1], f"none that runs on {device} is installed")


__all__ = [
    "AUTOMATIC",
    "RUNTIMES",
    "FakeRuntime",
    "OnnxRuntime",
    "OpenVinoRuntime",
    "Pick",
    "Runtime",
    "TensorRtRuntime",
    "devices",
    "preferred_runtime",
    "runtimes_on",
]
