"""The detectors in PyTorch: `build` makes one from a row of `ZOO`."""

from resnest_export.models.build import build
from resnest_export.models.zoo import ZOO, DetectorConfig

__all__ = ["ZOO", "DetectorConfig", "build"]
