"""Answers by name of their format: `(detections, card, masks=…, image_id=…) -> what JSON can hold`."""

from collections.abc import Callable
from typing import Any

from resnest_core.formats.coco import coco
from resnest_core.formats.native import add_timings, from_native, native
from resnest_core.formats.roboflow import add_time, roboflow
from resnest_core.formats.ultralytics import add_speed, ultralytics

FORMATS: dict[str, Callable[..., Any]] = {
    "native": native,
    "coco": coco,
    "roboflow": roboflow,
    "ultralytics": ultralytics,
}

# How a format says, in an answer that is made, how long it took: by stage and in `total`, in milliseconds.
TIMED: dict[str, Callable[[Any, dict[str, float]], None]] = {
    "native": add_timings,
    "roboflow": add_time,
    "ultralytics": add_speed,
}

__all__ = ["FORMATS", "TIMED", "coco", "from_native", "native", "roboflow", "ultralytics"]
