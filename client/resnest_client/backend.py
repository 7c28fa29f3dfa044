"""Runtime and device of a detector, as reported by the runtime or the gateway."""

from __future__ import annotations

from typing import NamedTuple

from resnest_core.detector import Detector, InProcessDetector


class Backend(NamedTuple):
    """A runtime's name, such as `onnxruntime`, and its device, such as `cuda:0`; None: the server doesn't report it."""

    runtime: str | None
    device: str | None


def backend_of(detector: Detector) -> Backend:
    """Return a detector's runtime and device. A gateway reports them to its clients, Triton doesn't."""
    if isinstance(detector, InProcessDetector):
        return Backend(detector.runtime.name, detector.runtime.device)
    from resnest_client.http_detector import HttpDetector  # its dependencies aren't needed for in-process detectors

    if isinstance(detector, HttpDetector):
        return Backend(detector.served.runtime, detector.served.device)
    return Backend(None, None)
