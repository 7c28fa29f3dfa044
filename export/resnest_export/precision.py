"""Precisions of exported networks, and the gate that limits the loss of accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from resnest_core.detector import Detector
from resnest_core.errors import InvalidModelError
from resnest_core.evaluation import evaluate


class Precision(str, Enum):
    """The precision of an exported network."""

    FP32 = "fp32"
    BF16 = "bf16"
    """The fp32 file, which OpenVINO runs in bf16 on CPUs that support it."""
    INT8 = "int8"
    """Convolutions and linear layers in int8; the rest in bf16 where the CPU has it, and in engines as in fp16."""
    FP16 = "fp16"
    """TensorRT engines only; their ONNX file is in fp32."""
    FP8 = "fp8"
    """TensorRT engines only: convolutions and linear layers in fp8, the rest as in fp16."""


ENGINES_ONLY = (Precision.FP16, Precision.FP8)
CALIBRATED = (Precision.INT8, Precision.FP8)


def model_name(name: str, precision: Precision) -> str:
    """Return a model's name in a precision: other than fp32, it ends in `_<precision>`."""
    return name if precision is Precision.FP32 else f"{name}_{precision.value}"


@dataclass(frozen=True)
class Gate:
    """Largest permitted loss of average precision (0…1, for boxes and for masks) against fp32, and the images."""

    most: float
    annotations: Path
    images: Path

    def check(self, reference: Detector, candidate: Detector, report: Callable[[str], None]) -> None:
        """Evaluate both detectors and report their average precision.

        Raises:
            InvalidModelError: the candidate loses more than `most`.
            ParameterError, ImageError: the annotations or an image can't be used.
        """
        before, after = (evaluate(each, self.annotations, self.images) for each in (reference, candidate))
        lost = {name: (before[name]["AP"] or 0) - (after[name]["AP"] or 0) for name in before}
        for name in before:
            report(f"{name} AP {after[name]['AP']:.4f}, against {before[name]['AP']:.4f} in fp32")
        worst = max(lost.values())
        if worst > self.most:
            raise InvalidModelError(
                f"The model loses {worst:.4f} of AP, more than --gate {self.most:g}: "
                "calibrate on more photographs like yours, or use bf16 or fp32."
            )
