"""Answers by name of their format: `(detections, card, masks=…, image_id=…) -> what JSON can hold`."""

from collections.abc import Callable
from typing import Any

from resnest_core.formats.coco import coco
from resnest_core.formats.native import from_native, native

FORMATS: dict[str, Callable[..., Any]] = {"native": native, "coco": coco}

__all__ = ["FORMATS", "coco", "from_native", "native"]
