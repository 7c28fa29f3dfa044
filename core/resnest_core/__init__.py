"""ResNeSt detectors without the training stack: images in, boxes and masks out."""

from importlib.metadata import version

from resnest_core.card import ModelCard
from resnest_core.detections import Detection, Detections
from resnest_core.detector import Detector, InProcessDetector
from resnest_core.errors import (
    AccessError,
    CheckpointError,
    ConfigError,
    DownloadError,
    EngineMismatchError,
    ForbiddenError,
    ImageError,
    ImageTooLargeError,
    ImageTooNarrowError,
    InvalidModelError,
    MissingExtraError,
    ModelError,
    ModelNotFoundError,
    NotAnImageError,
    NotOpenError,
    OverloadedError,
    ParameterError,
    PrecisionUnavailableError,
    RateLimitedError,
    RemoteError,
    ResNeStError,
    RuntimeUnavailableError,
    TimedOutError,
    UnauthorizedError,
    UnreachableError,
)
from resnest_core.repository import load_detector
from resnest_core.telemetry_off import switch_off
from resnest_core.tiles import Tiles

switch_off()

__version__ = version("resnest-serving")

__all__ = [
    "AccessError",
    "CheckpointError",
    "ConfigError",
    "Detection",
    "Detections",
    "Detector",
    "DownloadError",
    "EngineMismatchError",
    "ForbiddenError",
    "ImageError",
    "ImageTooLargeError",
    "ImageTooNarrowError",
    "InProcessDetector",
    "InvalidModelError",
    "MissingExtraError",
    "ModelCard",
    "ModelError",
    "ModelNotFoundError",
    "NotAnImageError",
    "NotOpenError",
    "OverloadedError",
    "ParameterError",
    "PrecisionUnavailableError",
    "RateLimitedError",
    "RemoteError",
    "ResNeStError",
    "RuntimeUnavailableError",
    "Tiles",
    "TimedOutError",
    "UnauthorizedError",
    "UnreachableError",
    "__version__",
    "load_detector",
]
