"""ResNeSt detectors without the training stack: images in, boxes and masks out."""

from importlib.metadata import version

from resnest_core.card import ModelCard
from resnest_core.detections import Detections
from resnest_core.detector import Detector, InProcessDetector
from resnest_core.errors import ResNeStError
from resnest_core.repository import load_detector
from resnest_core.telemetry_off import switch_off

switch_off()

__version__ = version("resnest-serving")

__all__ = ["Detections", "Detector", "InProcessDetector", "ModelCard", "ResNeStError", "__version__", "load_detector"]
