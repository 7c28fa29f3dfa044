"""COCO's figures (https://cocodataset.org/#detection-eval), by pycocotools."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from resnest_core.evaluation.annotations import Annotations, ImageId

FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""As COCO orders them: average precision and recall, at IoU 0.50…0.95 unless named, also by the size of objects."""

Figures: TypeAlias = dict[str, float | None]
"""Each of `FIGURES`, in 0…1; None where there are no such objects."""

REGIONS = {"bbox": "bbox", "segm": "segmentation"}  # what is compared, by COCO's name of the IoU


@dataclass(frozen=True)
class Scores:
    """COCO's figures for one set of detections."""

    figures: Figures
    ap_by_category: dict[int, float | None]
    """AP by the annotations' category id; None where there are no objects."""


def compare(
    annotations: Annotations, results: Iterable[Mapping[str, Any]], iou_type: str, image_ids: Sequence[ImageId]
) -> Scores:
    """Compare detections with what is annotated.

    Args:
        annotations: the truth.
        results: COCO's with the category ids of the model's card, each with `bbox` [x, y, width, height], for masks
            `segmentation` in run lengths; those of classes that aren't annotated are left out.
        iou_type: `bbox` or `segm`.
        image_ids: the images that count; objects and detections in others don't.
    """
    counted = {id_: annotations.numbers[id_] for id_ in image_ids}
    # Boxes aren't passed along with masks: areas would be those of the boxes then. mmdetection does the same.
    keys = ("image_id", "category_id", "score", REGIONS[iou_type])
    found = annotations.classes.with_ids_of_file(row for row in results if row["image_id"] in counted)
    rows = [{key: row[key] for key in keys} | {"image_id": counted[row["image_id"]]} for row in found]
    truth = annotations.indices[iou_type]
    with redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, _found(truth, rows), iou_type)
        evaluation.params.imgIds = sorted(counted.values())
        evaluation.params.catIds = list(annotations.category_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # Of axes IoU, recall, category, area (0: all) and detections per image (-1: 100).
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    return Scores(
        figures={name: _figure(value) for name, value in zip(FIGURES, evaluation.stats, strict=True)},
        ap_by_category={
            category: _figure(np.mean(precision[:, :, place]))
            for place, category in enumerate(evaluation.params.catIds)
        },
    )


def _figure(value: float) -> float | None:
    return None if value < 0 else float(value)  # pycocotools says -1 where there is nothing to find


def _found(truth: COCO, rows: list[dict[str, Any]]) -> COCO:
    if rows:
        return truth.loadRes(rows)
    nothing = COCO()  # of which loadRes can make nothing
    nothing.dataset = {**truth.dataset, "annotations": []}
    nothing.createIndex()
    return nothing
