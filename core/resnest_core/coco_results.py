"""COCO's results format (https://cocodataset.org/#format-results)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnest_core.card import ModelCard
from resnest_core.masks import mask_form, rle

if TYPE_CHECKING:
    from resnest_core.detections import Detections

BOX_DECIMALS = 6  # untrained weights make boxes a hundredth of a pixel wide
SCORE_DECIMALS = 7


def coco(
    detections: Detections, card: ModelCard, *, masks: str = "rle", image_id: int | str = 0
) -> list[dict[str, Any]]:
    """Return a list of `{"image_id", "category_id", "bbox": [x, y, width, height], "score", "segmentation"}`.

    COCO's masks are run lengths, whichever form `masks` names; `none` leaves them out.

    Raises:
        ParameterError: `masks` names no form.
    """
    wanted = mask_form(masks) is not None
    boxes = detections.boxes_xyxy.astype(float)
    boxes[:, 2:] -= boxes[:, :2]
    rows: list[dict[str, Any]] = [
        {"image_id": image_id, "category_id": card.category_ids[label], "bbox": box, "score": score}
        for box, score, label in zip(
            boxes.round(BOX_DECIMALS).tolist(),
            detections.scores.astype(float).round(SCORE_DECIMALS).tolist(),
            detections.labels.tolist(),
            strict=True,
        )
    ]
    if detections.masks is not None and wanted:
        for row, mask, box in zip(rows, detections.masks, detections.boxes_xyxy, strict=True):
            row["segmentation"] = rle(mask, box, detections.image_size_hw, threshold=card.mask_threshold)
    return rows
