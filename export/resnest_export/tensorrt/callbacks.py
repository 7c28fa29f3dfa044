"""Callbacks of TensorRT's builder: logger and progress monitor."""

from __future__ import annotations

import logging
from typing import Any

from resnest_export.tensorrt.progress import Progress

log = logging.getLogger(__name__)


def logger(trt: Any, layers: list[str]) -> Any:
    """Return a TensorRT logger that forwards messages to `logging` and collects the lines that list layers."""
    severities = {
        trt.ILogger.Severity.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.Severity.ERROR: logging.ERROR,
        trt.ILogger.Severity.WARNING: logging.INFO,  # TensorRT warns of int64 inputs, which are intended
    }

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if "LayerType:" in message:
                layers.extend(line for line in message.splitlines() if line.startswith("Name: "))
            log.log(severities.get(severity, logging.DEBUG), "TensorRT: %s", message)

    return Logger()


def monitor(trt: Any, progress: Progress) -> Any:
    """Return a TensorRT progress monitor that updates `progress`."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return progress.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

    return Monitor()
