"""The project's native response format, and its parser."""

from __future__ import annotations

from typing import Any

import numpy as np

from resnest_core.card import ModelCard
from resnest_core.coco_results import BOX_DECIMALS, SCORE_DECIMALS
from resnest_core.detections import Detections
from resnest_core.errors import RemoteError
from resnest_core.masks import from_raw, mask_form


def native(
    detections: Detections,
    card: ModelCard,
    *,
    masks: str = "rle",
    image_id: int | str = 0,  # noqa: ARG001 - as every format
) -> dict[str, Any]:
    """Return `{"model", "image": {"width", "height"}, "detections": [{"box", "score", "label", "class", "mask"}]}`.

    `box` is [x1, y1, x2, y2] in pixels of the image. `masks` is one of MASK_FORMS, or `none`; there is no `mask` key
    then, nor where the detections have no masks.

    Raises:
        ParameterError: `masks` names no form.
    """
    form = mask_form(masks)
    height, width = detections.image_size_hw
    rows: list[dict[str, Any]] = [
        {"box": box, "score": score, "label": label, "class": card.classes[label]}
        for box, score, label in zip(
            detections.boxes_xyxy.astype(float).round(BOX_DECIMALS).tolist(),
            detections.scores.astype(float).round(SCORE_DECIMALS).tolist(),
            detections.labels.tolist(),
            strict=True,
        )
    ]
    if detections.masks is not None and form is not None:
        for row, mask, box in zip(rows, detections.masks, detections.boxes_xyxy, strict=True):
            row["mask"] = form(mask, box, detections.image_size_hw, threshold=card.mask_threshold)
    return {"model": card.name, "image": {"width": width, "height": height}, "detections": rows}


def add_timings(answer: dict[str, Any], timings_ms: dict[str, float]) -> None:
    """Write the milliseconds of each stage, and `total`, into the answer."""
    answer["timings_ms"] = timings_ms


def from_native(answer: dict[str, Any], mask_size: int | None = None) -> Detections:
    """Return the detections of a native answer whose masks are `raw`.

    Args:
        answer: the JSON object.
        mask_size: side of the masks that were asked for; None: none were.

    Raises:
        RemoteError: the object isn't such an answer.
    """
    try:
        rows = answer["detections"]
        size_hw = (int(answer["image"]["height"]), int(answer["image"]["width"]))
        masks = None
        if mask_size is not None:
            masks = np.array([from_raw(row["mask"]) for row in rows], np.float16).reshape(-1, mask_size, mask_size)
        return Detections(
            boxes_xyxy=np.array([row["box"] for row in rows], np.float32).reshape(-1, 4),
            scores=np.array([row["score"] for row in rows], np.float32),
            labels=np.array([row["label"] for row in rows], np.int64),
            masks=masks,
            image_size_hw=size_hw,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RemoteError("The server's answer is not a native one of this project: check the address.") from error
