"""Roboflow Inference's answer over HTTP, which `supervision.Detections.from_inference` reads.

https://docs.roboflow.com/deploy/serverless/instance-segmentation describes it.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from resnest_core.card import ModelCard
from resnest_core.coco_results import BOX_DECIMALS, SCORE_DECIMALS
from resnest_core.detections import Detections
from resnest_core.formats.outline import outline
from resnest_core.masks import Box, Mask, mask_form

FEWEST_POINTS = 3  # supervision drops the masks of all predictions where one has fewer


def roboflow(
    detections: Detections,
    card: ModelCard,
    *,
    masks: str = "rle",
    image_id: int | str = 0,  # noqa: ARG001 - as every format
) -> dict[str, Any]:
    """Return `{"inference_id", "image": {"width", "height"}, "predictions": [{"x", "y", "width", "height", …}]}`.

    A prediction has `x`, `y`, its box's centre, `width`, `height`, `confidence`, `class`, `class_id`, the label, and
    `detection_id`. Where the detections have masks it has `points` too, `[{"x", "y"}, …]`, whichever form `masks`
    names; `none` leaves them out of all. There is room for one ring: the outline of the mask's largest part, without
    holes. An empty mask is its box's centre three times: a ring without an area, that tools read.

    Raises:
        ParameterError: `masks` names no form.
    """
    wanted = mask_form(masks) is not None
    height, width = detections.image_size_hw
    boxes = detections.boxes_xyxy.astype(float).round(BOX_DECIMALS)
    sizes = boxes[:, 2:] - boxes[:, :2]
    rows: list[dict[str, Any]] = [
        {
            "x": x,
            "y": y,
            "width": box_width,
            "height": box_height,
            "confidence": score,
            "class": card.classes[label],
            "class_id": label,
            "detection_id": str(uuid4()),
        }
        for (x, y), (box_width, box_height), score, label in zip(
            (boxes[:, :2] + sizes / 2).round(BOX_DECIMALS + 1).tolist(),
            sizes.round(BOX_DECIMALS).tolist(),
            detections.scores.astype(float).round(SCORE_DECIMALS).tolist(),
            detections.labels.tolist(),
            strict=True,
        )
    ]
    if detections.masks is not None and wanted:
        for row, mask, box in zip(rows, detections.masks, detections.boxes_xyxy, strict=True):
            row["points"] = _points(mask, box, detections.image_size_hw, card.mask_threshold)
    return {"inference_id": str(uuid4()), "image": {"width": width, "height": height}, "predictions": rows}


def _points(mask: Mask, box_xyxy: Box, image_size_hw: tuple[int, int], threshold: float) -> list[dict[str, float]]:
    ring: list[list[float]] = outline(mask, box_xyxy, image_size_hw, threshold=threshold).tolist()
    if not ring:
        ring = [((box_xyxy[:2] + box_xyxy[2:]).astype(float) / 2).round(BOX_DECIMALS).tolist()]
    ring += ring[:1] * (FEWEST_POINTS - len(ring))
    return [{"x": x, "y": y} for x, y in ring]


def add_time(answer: dict[str, Any], timings_ms: dict[str, float]) -> None:
    """Write the seconds that the answer took into it."""
    answer["time"] = round(timings_ms["total"] / 1000, 6)
