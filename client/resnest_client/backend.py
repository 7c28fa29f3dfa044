"""What runs a detector: its runtime and device, as the runtime itself or the gateway reports them."""

from __future__ import annotations

from typing import NamedTuple

from resnest_core.detector import Detector, InProcessDetector


class Backend(NamedTuple):
    """A runtime's name, such as `onnxruntime`, and its device, such as `cuda:0`; None: the server doesn't report it."""

    runtime: str | None
    device: str | None


def backend_of(detector: Detector) -> Backend:
    """Return what runs a detector. Triton doesn't report it to its clients, a gateway does."""
    if isinstance(detector, InProcessDetector):
        return Backend(detector.runtime.name, detector.runtime.device)
    from resnest_client import HttpDetector  # its packages aren't needed in the process

    if isinstance(detector, HttpDetector):
        return Backend(detector.served.runtime, detector.served.device)
    return Backend(None, None)
