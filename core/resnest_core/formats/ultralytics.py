"""Ultralytics' answer over HTTP, as its inference API documents it.

https://docs.ultralytics.com/platform/deploy/inference/#response has one image in a list, with what was found in it,
and metadata. The rows of `results` are those of `Results.summary()` and `to_json()` in Ultralytics' Python package.
"""

from __future__ import annotations

from typing import Any

import resnest_core
from resnest_core.card import ModelCard
from resnest_core.coco_results import BOX_DECIMALS, SCORE_DECIMALS
from resnest_core.detections import Detections
from resnest_core.formats.outline import outline
from resnest_core.masks import mask_form


def ultralytics(
    detections: Detections,
    card: ModelCard,
    *,
    masks: str = "rle",
    image_id: int | str = 0,  # noqa: ARG001 - as every format
) -> dict[str, Any]:
    """Return `{"images": [{"shape": [height, width], "results": [ … ], "speed": {}}], "metadata": { … }}`.

    A row of `results` has `class`, the label, `name`, `confidence`, and `box`, `{"x1", "y1", "x2", "y2"}` in pixels of
    the image. Where the detections have masks it has `segments` too, `{"x": [ … ], "y": [ … ]}`, whichever form `masks`
    names; `none` leaves them out. There is room for one ring: the outline of the mask's largest part, without holes;
    the lists of an empty mask are empty. `add_speed` fills `speed`.

    Raises:
        ParameterError: `masks` names no form.
    """
    wanted = mask_form(masks) is not None
    rows: list[dict[str, Any]] = [
        {
            "class": label,
            "name": card.classes[label],
            "confidence": score,
            "box": dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)),
        }
        for box, score, label in zip(
            detections.boxes_xyxy.astype(float).round(BOX_DECIMALS).tolist(),
            detections.scores.astype(float).round(SCORE_DECIMALS).tolist(),
            detections.labels.tolist(),
            strict=True,
        )
    ]
    if detections.masks is not None and wanted:
        for row, mask, box in zip(rows, detections.masks, detections.boxes_xyxy, strict=True):
            x, y = outline(mask, box, detections.image_size_hw, threshold=card.mask_threshold).T.tolist()
            row["segments"] = {"x": x, "y": y}
    return {
        "images": [{"shape": list(detections.image_size_hw), "results": rows, "speed": {}}],
        "metadata": {
            "imageCount": 1,
            "model": card.name,
            "version": {"resnest-serving": resnest_core.__version__},
        },
    }


def add_speed(answer: dict[str, Any], timings_ms: dict[str, float]) -> None:
    """Write the milliseconds of the stages into the answer, where they were measured, and the seconds of all of it."""
    if timings_ms.keys() - {"total"}:
        answer["images"][0]["speed"] = {
            "preprocess": round(timings_ms.get("decode", 0) + timings_ms.get("resize", 0), 3),
            "inference": timings_ms.get("network", 0),
            "postprocess": timings_ms.get("format", 0),
        }
    answer["metadata"]["functionTimeCall"] = round(timings_ms["total"] / 1000, 6)
