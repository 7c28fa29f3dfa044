"""Turns off the usage reports that other packages send to their makers.

`import resnest_core` calls `switch_off`, before any of these packages is imported. Two of them report by default:
ONNX Runtime from 1.29 on as soon as it is imported, OpenVINO as well, through its package `openvino_telemetry`.
"""

from __future__ import annotations

import os
import sys

ALLOW = "RESNEST_ALLOW_TELEMETRY"
"""The environment variable that leaves each package its own default, where it is true."""
TRUE = ("1", "on", "true", "yes")

# Each package's own switch, and the value that turns its reports off.
SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray
    "BENTOML_DO_NOT_TRACK": "True",  # BentoML, with which benchmarks compare
    "HF_HUB_DISABLE_TELEMETRY": "1",  # Hugging Face's packages
    "GRADIO_ANALYTICS_ENABLED": "False",  # Gradio
    "DO_NOT_TRACK": "1",  # shared by several tools
}
REPORTERS = ("openvino_telemetry",)
"""Packages that do nothing but report; OpenVINO, which has no switch, does without if this one can't be imported."""


def is_allowed() -> bool:
    """Return whether the environment allows other packages' reports."""
    return os.environ.get(ALLOW, "").strip().lower() in TRUE


def switch_off() -> None:
    """Turn off other packages' reports in this process and its children, unless the environment allows them.

    A switch that the user has set already keeps its value. Where reports are allowed, switches that are off are unset:
    the images of this project set them.
    """
    if is_allowed():
        for name, off in SWITCHES.items():
            if os.environ.get(name) == off:
                del os.environ[name]
        return
    for name, off in SWITCHES.items():
        if not os.environ.get(name):
            os.environ[name] = off
    for package in REPORTERS:
        sys.modules.setdefault(package, None)  # type: ignore[arg-type]  # importing it raises ModuleNotFoundError
