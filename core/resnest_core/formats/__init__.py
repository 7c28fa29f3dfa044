"""Table of the response formats."""

from resnest_core.coco_results import coco
from resnest_core.formats.answer_format import AnswerFormat
from resnest_core.formats.native import add_timings, from_native, native
from resnest_core.formats.roboflow import add_time, roboflow
from resnest_core.formats.ultralytics import add_speed, ultralytics

FORMATS: dict[str, AnswerFormat] = {
    "native": AnswerFormat(native, add_timings),
    "coco": AnswerFormat(coco, is_list=True),
    "roboflow": AnswerFormat(roboflow, add_time),
    "ultralytics": AnswerFormat(ultralytics, add_speed),
}

__all__ = ["FORMATS", "AnswerFormat", "coco", "from_native", "native", "roboflow", "ultralytics"]
